"""Pixels per second of prediction by the number of members, computed and from file to file.

    python benchmarks/prediction_speed.py [--side N] [--members 1 2 5 10] [--turns]
    python benchmarks/prediction_speed.py --device cuda --side 31623 --members 20 --encoder resnet34

Nets with random weights on 11 made-up bands. "Computed": windows from memory to finished rows.
"File to file": from a stack on disk to the map on disk as a Cloud Optimized GeoTIFF, in blocks, as
the step does. Mpx/s are pixels of the map; member-Mpx/s are those times the members. On a GPU the
nine architectures are taken in turn, as gpu-floor figures are; peak host memory is that of the
process. Without a GPU, `--device cuda` says so and measures nothing.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.files import write_json

Floats = NDArray[np.float32]
BANDS = 11
NINE = ("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3",
        "deeplabv3plus")  # fmt: skip
FULL = ("unet", "linknet", "manet", "unetplusplus")  # what the default runs are made of


def members_of(count: int, encoder: str, depth: int | None, nine: bool, device: Any) -> list[Any]:
    """Return nets with random weights on a device."""
    import torch

    from trainer.segmentation.models import build
    from trainer.segmentation.predict import Member

    kinds = NINE if nine else FULL
    found = []
    for number in range(count):
        torch.manual_seed(number)
        model = build(kinds[number % len(kinds)], encoder, BANDS, depth).eval().to(device.where)
        every = tuple(range(BANDS))
        found.append(Member(f"m{number}", model, every, (0.0,) * BANDS, (1.0,) * BANDS))
    return found


def computed(members: list[Any], side: int, how: dict[str, Any]) -> float:
    """Return seconds from windows in memory to finished rows."""
    import torch

    from trainer.segmentation.predict import predict_strips

    piece = np.random.default_rng(0).normal(size=(BANDS, 1024, 1024)).astype("float32")

    def read(top: int, bottom: int, left: int, right: int) -> Floats:
        rows, columns = np.arange(top, bottom) % 1024, np.arange(left, right) % 1024
        return piece[:, rows[:, None], columns]

    def once(height: int) -> None:
        for _ in predict_strips(members, read, (height, min(side, 8192)), **how):
            pass

    once(how["window"])  # kernels chosen, caches filled
    rows = side * side // min(side, 8192)
    begun = time.perf_counter()
    once(rows)
    if how["device"].where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def stack_of(path: Path, side: int) -> None:
    """Write a made-up stack, strip by strip."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    piece = np.random.default_rng(0).normal(size=(BANDS, 512, 1024)).astype("float32")
    profile = {"driver": "GTiff", "dtype": "float32", "count": BANDS, "height": side, "width": side,
               "crs": "EPSG:32652", "transform": Affine(10, 0, 5e5, 0, -10, 7.9e6),
               "nodata": float("nan"), "tiled": True, "blockxsize": 512, "blockysize": 512,
               "bigtiff": "IF_SAFER"}  # fmt: skip
    with rasterio.Env(GDAL_CACHEMAX=256), rasterio.open(path, "w", **profile) as target:
        target.descriptions = tuple(f"b{i}" for i in range(BANDS))
        for top in range(0, side, 512):
            rows = min(512, side - top)
            tile = np.tile(piece[:, :rows], (1, 1, -(-side // 1024)))[:, :, :side]
            target.write(tile, window=Window(0, top, side, rows))


def file_to_file(members: list[Any], stack: Path, how: dict[str, Any], block: int) -> float:
    """Return seconds from a stack on disk to the map on disk."""
    from trainer.segmentation.blend import blocks
    from trainer.segmentation.maps import Rows, join
    from trainer.segmentation.places import Place
    from trainer.segmentation.predict import predict_strips

    names = tuple(f"b{i}" for i in range(BANDS))
    folder = stack.parent
    begun = time.perf_counter()
    whole = Place(stack)
    files = []
    for part in blocks(whole.shape, block):
        place = Place.block(stack, part, how["window"], how["overlap"])
        files.append(folder / f"{part[0]}-{part[1]}.tif")
        with Rows(files[-1], place.grid) as rows:
            strips = predict_strips(
                members,
                lambda t, b, l, r, place=place: place.read(names, t, b, l, r),  # type: ignore[misc]
                place.shape,
                **how,
            )
            for strip in place.own(strips):
                rows.add(strip)
            rows.finish({}, block=True)
    join(folder / "map.tif", files, whole.grid, {})
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--side", type=int, default=1024, help="of the raster, pixels")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--encoder", default="tu-resnet10t")
    parser.add_argument("--depth", type=int, help="stages of the encoder; 3 on a processor")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--block", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", action="store_true", help="with the eight turns")
    arguments = parser.parse_args()

    import torch

    from thawslump.errors import ConfigError
    from trainer.segmentation.device import chosen
    from trainer.segmentation.train import reproducible

    try:
        device = chosen(arguments.device)
    except ConfigError as error:
        print(f"SKIPPED: {error}")
        return 0
    gpu = device.where.type == "cuda"
    name = torch.cuda.get_device_name(device.where) if gpu else f"{arguments.threads} thread(s)"
    batch = arguments.batch or (16 if gpu else 1)
    depth = arguments.depth or (None if gpu else 3)
    how: dict[str, Any] = {
        "window": arguments.window,
        "overlap": arguments.overlap,
        "batch": batch,
        "device": device,
        "turned": arguments.turns,
    }
    side, table = arguments.side, []
    print(
        f"{name}: {side} x {side} pixels, {BANDS} bands (made up), {arguments.encoder}, windows of "
        f"{arguments.window} overlapping by {arguments.overlap}, {batch} at once"
        + (", eight turns" if arguments.turns else "")
    )
    print("members  computed Mpx/s  member-Mpx/s  file to file Mpx/s  peak host MiB")
    with tempfile.TemporaryDirectory() as folder, reproducible(0, arguments.threads):
        stack = Path(folder) / "stack.tif"
        stack_of(stack, side)
        for count in arguments.members:
            members = members_of(count, arguments.encoder, depth, gpu, device)
            alone = side * side / computed(members, side, how) / 1e6
            whole = side * side / file_to_file(members, stack, how, arguments.block) / 1e6
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            table.append({"members": count, "mpx_per_second": alone,
                          "file_to_file_mpx_per_second": whole, "peak_mib": peak})  # fmt: skip
            print(f"{count:7} {alone:15.3f} {alone * count:13.3f} {whole:19.3f} {peak:14.0f}")
    write_json(
        Path(__file__).parent / "results" / f"prediction_speed_{device.where.type}.json",
        {"made_up": True, "device": name, "side": side, "encoder": arguments.encoder,
         "turns": arguments.turns, "rows": table},
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
