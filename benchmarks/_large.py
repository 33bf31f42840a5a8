"""A made-up catalogue of Sentinel-2-sized scenes that takes little room on the disk.

Every scene has the 10,980 x 10,980 pixels of a real tile in 12 bands and a QA band, with whole
pyramids. The values are made up: smooth fields with noise on 1,024 x 1,024 pixels, repeated. The
files hold each distinct block once: their directories name it as often as it occurs, so they are
plain tiled GeoTIFFs to any reader.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gee.emulator.catalog import BLOCK, BandData, Catalog, pyramid

SIDE = 10_980
PERIOD = 1024
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
QA = "QA60"
CRS = "EPSG:32608"
TRANSFORM = (10.0, 0.0, 499_980.0, 0.0, -10.0, 7_600_020.0)
COLLECTION = "LARGE/S2"
CLOUDS = 1 << 10


def pattern(scene: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return what a scene repeats: reflectances by band, the QA band, and where it has data."""
    random = np.random.default_rng(scene)
    y, x = np.mgrid[:PERIOD, :PERIOD] * (2 * np.pi / PERIOD)
    bands = {}
    for number, name in enumerate(BANDS):
        smooth = np.sin(x * (2 + number % 3) + scene) * np.cos(y * (1 + number % 4))
        noise = random.normal(0, 60, (PERIOD, PERIOD))
        bands[name] = np.clip(1500 + 120 * number + 700 * smooth + noise, 1, 9999).astype(np.uint16)
    cloudy = np.sin(x * 3 + scene) * np.sin(y * 2 - scene) > 0.7
    valid = ~((np.abs(x - 3) < 0.3) & (np.abs(y - 1 - 0.5 * scene) < 0.2))
    return bands, np.where(cloudy, CLOUDS, 0).astype(np.uint16), valid


def repeated(array: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return a part of what `array` is when it is repeated without end."""
    h, w = array.shape
    at_rows = np.arange(rows.start, rows.stop) % h
    return array[np.ix_(at_rows, np.arange(columns.start, columns.stop) % w)]


def repeat_tiff(path: Path, side: int) -> None:
    """Turn a small tiled GeoTIFF into one of `side` pixels that repeats it, block by block.

    Parameters
    ----------
    path : Path
        A classic, little-endian TIFF with its bands apart, whose sides are whole blocks.
    side : int
        Width and height of the result.
    """
    content = path.read_bytes()
    assert content[:4] == b"II*\0", "expected a classic little-endian TIFF"
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    entries: dict[int, tuple[int, int, bytes]] = {}
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 11: 4, 12: 8}
    for k in range(count):
        tag, kind, number = struct.unpack_from("<HHI", content, place + 2 + 12 * k)
        at = place + 10 + 12 * k
        if sizes[kind] * number > 4:
            (at,) = struct.unpack_from("<I", content, at)
        entries[tag] = (kind, number, content[at : at + sizes[kind] * number])

    def numbers(tag: int) -> np.ndarray:
        kind, _, raw = entries[tag]
        return np.frombuffer(raw, {3: "<u2", 4: "<u4"}[kind]).astype(np.uint32)

    planes = int(numbers(277)[0])
    block = int(numbers(322)[0])
    across = int(numbers(256)[0]) // block
    offsets, lengths = (numbers(tag).reshape(planes, across, across) for tag in (324, 325))
    wide = -(-side // block)
    order = np.arange(wide) % across
    for tag, values in ((324, offsets), (325, lengths)):
        full = np.ascontiguousarray(values[:, order][:, :, order])
        entries[tag] = (4, full.size, full.astype("<u4").tobytes())
    for tag in (256, 257):
        entries[tag] = (4, 1, struct.pack("<I", side))
    out = bytearray(content)
    table = []
    for tag, (kind, number, raw) in sorted(entries.items()):
        if len(raw) <= 4:
            table.append(struct.pack("<HHI", tag, kind, number) + raw.ljust(4, b"\0"))
            continue
        if len(out) % 2:
            out += b"\0"
        table.append(struct.pack("<HHII", tag, kind, number, len(out)))
        out += raw
    if len(out) % 2:
        out += b"\0"
    start = len(out)
    out += struct.pack("<H", len(table)) + b"".join(table) + b"\0\0\0\0"
    struct.pack_into("<I", out, 4, start)
    path.write_bytes(out)


def _file(path: Path, arrays: Sequence[np.ndarray], names: Sequence[str], level: int) -> None:
    import rasterio
    from rasterio.transform import Affine

    height, width = arrays[0].shape
    a, b, c, d, e, f = TRANSFORM
    k = 2**level
    dtype = arrays[0].dtype
    tiles = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK} if height >= BLOCK else {}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=len(arrays), dtype=dtype,
        crs=CRS, transform=Affine(a * k, b, c, d, e * k, f), interleave="band", compress="ZSTD",
        predictor=3 if dtype.kind == "f" else 2, zstd_level=3, **tiles,
    ) as target:  # fmt: skip
        for number, (array, name) in enumerate(zip(arrays, names, strict=True), 1):
            target.write(array, number)
            target.set_band_description(number, name)


def _group(folder: Path, number: int, scene: int, bands: dict[str, np.ndarray],
           valid: np.ndarray | None, policy: Any, side: int) -> dict[str, Any]:  # fmt: skip
    """Write the files of bands that share a grid; return their entry in the manifest."""
    stem = f"{scene + 16 * number:012x}_{number}"
    files: list[str] = []
    masks: list[str | None] = []
    images = [(a, valid) for a in bands.values()]
    size, level, size_bytes = side, 0, 0
    while True:
        # A level repeats as long as a block of the pattern is a whole block of the level below.
        tiled = size > 2 * BLOCK and images[0][0].shape[0] * 2**level == PERIOD
        arrays = [a for a, _ in images]
        marks = images[0][1]
        if tiled:
            times = -(-BLOCK // arrays[0].shape[0])
            arrays = [np.tile(a, (times, times)) for a in arrays]
            marks = None if marks is None else np.tile(marks, (times, times))
        name = f"{stem}_{level}.tif"
        _file(folder / name, arrays, list(bands), level)
        files.append(name)
        masks.append(None)
        if marks is not None:
            masks[-1] = f"{stem}_{level}.mask.tif"
            mark = marks.astype(np.uint8) if marks.dtype == bool else marks
            _file(folder / str(masks[-1]), [mark], ["mask"], level)
        if tiled:
            repeat_tiff(folder / name, size)
            if masks[-1]:
                repeat_tiff(folder / str(masks[-1]), size)
        for made in (name, masks[-1]):
            size_bytes += (folder / made).stat().st_size if made else 0
        if size <= 256:
            break
        if tiled and not (size // 2 > 2 * BLOCK and size % 2 == 0):
            whole = slice(0, size)
            images = [
                (repeated(a, whole, whole), None if m is None else repeated(m, whole, whole))
                for a, m in images
            ]
        images = [list(_two(pyramid(a, m, policy)))[1] for a, m in images]
        size, level = -(-size // 2), level + 1
    return {
        "crs": CRS, "transform": list(TRANSFORM), "shape": [side, side],
        "dtype": next(iter(bands.values())).dtype.name, "policy": policy, "data": files,
        "masks": masks, "shared": [True] * len(files), "bytes": size_bytes,
    }  # fmt: skip


def _two(levels: Any) -> list[Any]:
    return [next(levels), next(levels)]


def build(root: Path, scenes: int = 6, side: int = SIDE) -> Catalog:
    """Write the catalogue and return it."""
    catalog = Catalog(root, writable=True)
    catalog.put_collection(COLLECTION, {"title": "Made up, for benchmarks"})
    small = np.zeros((1, 1), np.uint16)
    for scene in range(scenes):
        bands, qa, valid = pattern(scene)
        name = f"{COLLECTION}/scene_{scene}"
        # Let the catalogue write a manifest of one pixel, then put the real grids into it.
        one = [
            *(BandData(b, small, CRS, TRANSFORM) for b in BANDS),
            BandData(QA, small, CRS, TRANSFORM, pyramiding="SAMPLE"),
        ]
        k = float(side)
        whole = (10.0 * k, 0.0, TRANSFORM[2], 0.0, -10.0 * k, TRANSFORM[5])
        catalog.put_image(
            name,
            [BandData(b.id, b.array, CRS, whole, pyramiding=b.pyramiding) for b in one],
            {"CLOUDY_PIXEL_PERCENTAGE": 10 * scene, "made_up": 1},
            start_ms=1_700_000_000_000 + scene * 432_000_000,
        )
        folder = root / name
        path = folder / "asset.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for old in folder.glob("*.tif"):
            old.unlink()
        manifest["groups"] = [
            _group(folder, 0, scene, bands, valid, "MEAN", side),
            _group(folder, 1, scene, {QA: qa}, None, "SAMPLE", side),
        ]
        catalog._commit(name, str(folder), manifest)
    return catalog
