"""The catalogue: pyramids, what is read is what was put, ids that stay inside, whole or absent."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gee.emulator.catalog import (
    BandData,
    Catalog,
    DataType,
    asset_name,
    downsample,
    normalize_id,
    pyramid,
)
from thawslump.errors import DataError, StorageError

GRID = ("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0))


def band(array, name="B1", **options) -> BandData:
    return BandData(name, np.asarray(array), *GRID, **options)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", writable=True)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- pyramids


def naive(data, mask, policy):
    """Every rule written out for one block at a time."""
    h, w = data.shape
    out = np.zeros((-(-h // 2), -(-w // 2)), data.dtype)
    new = np.zeros(out.shape, np.float64)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            cells = [
                (data[r, c], float(mask[r, c]))
                for r in (2 * i, 2 * i + 1)
                for c in (2 * j, 2 * j + 1)
                if r < h and c < w
            ]
            good = [(v, m) for v, m in cells if m > 0]
            if policy == "SAMPLE":
                out[i, j], new[i, j] = cells[0]
                continue
            if not good:
                continue
            values = [v for v, _ in good]
            if policy == "MEAN":
                mean = sum(float(v) * m for v, m in good) / sum(m for _, m in good)
                out[i, j] = np.rint(mean) if data.dtype.kind in "iu" else mean
                new[i, j] = sum(m for _, m in cells) / 4
            else:
                new[i, j] = max(m for _, m in good)
                if policy == "MODE":
                    out[i, j] = max(values, key=values.count)
                else:
                    out[i, j] = min(values) if policy == "MIN" else max(values)
    return out, new


@settings(max_examples=60, deadline=None)
@given(
    data=hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 7),
    ),
    policy=st.sampled_from(["MEAN", "SAMPLE", "MODE", "MIN", "MAX"]),
    quarters=st.data(),
)
def test_downsample_equals_the_rules_written_out(data, policy, quarters) -> None:
    steps = quarters.draw(hnp.arrays(np.int8, data.shape, elements=st.integers(0, 4)))
    mask = (steps / 4).astype(np.float32)
    got, got_mask = downsample(data, mask, policy)
    want, want_mask = naive(data, mask, policy)
    full = np.ones(got.shape) if got_mask is None else got_mask
    np.testing.assert_allclose(full, want_mask, atol=1e-6)
    assert got.dtype == data.dtype
    valid = want_mask > 0
    np.testing.assert_allclose(got[valid], want[valid], rtol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (257, 10), (1024, 700), (3, 2049)])
def test_pyramid_ends_at_256_pixels(shape: tuple[int, int]) -> None:
    levels = [data.shape for data, _ in pyramid(np.zeros(shape, np.uint8), None, "SAMPLE")]
    assert levels[0] == shape and max(levels[-1]) <= 256
    assert all(max(level) > 256 for level in levels[:-1])
    for above, below in zip(levels[1:], levels[:-1], strict=True):
        assert above == (-(-below[0] // 2), -(-below[1] // 2))


def test_mean_of_a_plane_is_the_plane_at_the_centre_of_the_block() -> None:
    rows, cols = np.mgrid[:512, :512].astype(np.float64)
    plane = 3 * cols - 2 * rows
    level, mask = downsample(plane, None, "MEAN")
    assert mask is None
    np.testing.assert_allclose(level, 3 * (cols[::2, ::2] + 0.5) - 2 * (rows[::2, ::2] + 0.5))


# ---- reading back


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_what_is_read_is_what_was_put(catalog: Catalog, dtype: str) -> None:
    random = np.random.default_rng(1)
    array = (random.random((70, 90)) * 100).astype(dtype)
    mask = random.random((70, 90)) > 0.3
    catalog.put_image("users/me/a", [band(array, mask=mask)])
    got = catalog.get("users/me/a")
    assert got is not None
    data, valid = got.bands[0].read(0, 0, 70, 0, 90)
    np.testing.assert_array_equal(valid, mask)
    np.testing.assert_array_equal(data, np.where(mask, array, 0).astype(data.dtype))
    assert got.bands[0].data_type == DataType.of(np.uint8 if dtype == "bool" else dtype)


def test_windows_over_many_blocks_equal_slices(catalog: Catalog) -> None:
    random = np.random.default_rng(2)
    array = random.integers(0, 60000, (1100, 1300)).astype(np.uint16)
    mask = (random.integers(0, 5, array.shape) / 4).astype(np.float32)
    catalog.put_image("a", [band(array, mask=mask)])
    image = catalog.get("a")
    assert image is not None
    levels = list(pyramid(np.where(mask > 0, array, 0).astype(np.uint16), mask, "MEAN"))
    assert image.bands[0].levels == len(levels) == 4
    for level, (data, valid) in enumerate(levels):
        h, w = data.shape
        assert image.bands[0].level_shape(level) == (h, w)
        full = np.ones((h, w)) if valid is None else valid
        for _ in range(10):
            r0, c0 = int(random.integers(0, h)), int(random.integers(0, w))
            r1, c1 = int(random.integers(r0, h)) + 1, int(random.integers(c0, w)) + 1
            got, got_mask = image.bands[0].read(level, r0, r1, c0, c1)
            np.testing.assert_array_equal(got, data[r0:r1, c0:c1])
            np.testing.assert_allclose(got_mask, full[r0:r1, c0:c1])
            with pytest.raises(ValueError, match="read-only"):
                got[0, 0] = 1


def test_bands_of_different_grids_and_masks(catalog: Catalog) -> None:
    fine = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    coarse = np.array([[7]], np.int16)
    holes = fine != 5
    catalog.put_image(
        "mixed",
        [
            band(fine, "a"),
            BandData("c", coarse, "EPSG:4326", (1, 0, 15, 0, -1, 46), min=0, max=9),
            band(fine, "b", mask=holes),
        ],
    )
    image = catalog.get("mixed")
    assert image is not None
    a, c, b = image.bands
    assert [x.id for x in image.bands] == ["a", "c", "b"]
    assert c.crs == "EPSG:4326" and c.transform == (1, 0, 15, 0, -1, 46) and c.shape == (1, 1)
    assert c.data_type == DataType("int", 0, 9)
    assert a.read(0, 0, 3, 0, 4)[1].all()
    np.testing.assert_array_equal(b.read(0, 0, 3, 0, 4)[1], holes)
    assert a.level_transform(1) == (20, 0, 500000, 0, -20, 5000000)


def test_nan_is_masked_and_holds_zero(catalog: Catalog) -> None:
    array = np.array([[1.0, np.nan], [np.nan, 4.0]])
    catalog.put_image("n", [band(array, mask=np.array([[1, 1], [1, 0]]))])
    data, mask = catalog.get("n").bands[0].read(0, 0, 2, 0, 2)  # type: ignore[union-attr]
    assert data.tolist() == [[1, 0], [0, 0]] and mask.tolist() == [[True, False], [False, False]]


def test_files_open_as_plain_geotiffs(catalog: Catalog) -> None:
    import rasterio

    catalog.put_image("g", [band(np.full((300, 300), 9, np.uint8), "red")])
    first = sorted(catalog.root.glob("g/*_0.tif"))[0]
    with rasterio.open(first) as source:
        assert source.descriptions == ("red",) and source.crs.to_epsg() == 32633
        assert tuple(source.transform)[:6] == GRID[1] and (source.read(1) == 9).all()


def test_window_outside_the_level_is_refused(catalog: Catalog) -> None:
    catalog.put_image("w", [band(np.zeros((5, 6)))])
    b = catalog.get("w").bands[0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="rows 0:6, columns 0:6 is not inside level 0"):
        b.read(0, 0, 6, 0, 6)
    with pytest.raises(DataError, match="levels 0 to 0, not 1"):
        b.read(1, 0, 1, 0, 1)


def test_footprint_is_the_outline_in_longitude_and_latitude(catalog: Catalog) -> None:
    from pyproj import Transformer
    from shapely.geometry import Point, shape

    catalog.put_image("f", [band(np.zeros((100, 50)))])
    outline = shape(catalog.get("f").footprint)  # type: ignore[union-attr]
    to_lonlat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform
    assert outline.buffer(1e-7).contains(Point(to_lonlat(500000, 5000000)))
    assert outline.contains(Point(to_lonlat(500250, 4999500)))
    assert not outline.contains(Point(to_lonlat(500510, 4999500)))
    assert outline.exterior.is_ccw


# ---- memory and threads


def test_cache_stays_within_its_bound_and_threads_agree(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    array = random.integers(0, 255, (1600, 1600)).astype(np.uint8)
    Catalog(tmp_path, writable=True).put_image("a", [band(array)])
    small = Catalog(tmp_path, cache_bytes=3 * 512 * 512)
    image = small.get("a")
    assert image is not None
    wrong: list[object] = []

    def work(seed: int) -> None:
        own = np.random.default_rng(seed)
        for _ in range(30):
            r, c = (int(v) for v in own.integers(0, 1400, 2))
            data, _ = image.bands[0].read(0, r, r + 200, c, c + 200)
            if not np.array_equal(data, array[r : r + 200, c : c + 200]):
                wrong.append((r, c))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert small._blocks.used <= 3 * 512 * 512
    assert small._blocks.used == sum(b.nbytes for b in small._blocks._blocks.values())


# ---- writing


def test_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        catalog = Catalog(tmp_path / name, writable=True)
        catalog.put_collection("c", {"b": 1, "a": 2})
        catalog.put_image("c/i", [band(np.arange(100.0).reshape(10, 10))], {"x": 1}, start_ms=5)
        catalog.put_table("t", [{"geometry": None, "properties": {"k": 1}}])
        trees.append(tree(catalog.root))
    assert trees[0] == trees[1] and len(trees[0]) == 7


def test_a_cut_off_put_leaves_the_old_image(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.put_image("a", [band(np.full((4, 4), 1))], {"v": 1})

    def cut(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "_commit", cut)
    with pytest.raises(KeyboardInterrupt):
        catalog.put_image("a", [band(np.full((4, 4), 2))], {"v": 2})
    with pytest.raises(KeyboardInterrupt):
        catalog.put_image("b", [band(np.full((4, 4), 2))])
    fresh = Catalog(catalog.root, writable=True, grace_seconds=0)
    old = fresh.get("a")
    assert old is not None and old.properties == {"v": 1}
    assert (old.bands[0].read(0, 0, 4, 0, 4)[0] == 1).all()
    assert fresh.get("b") is None or fresh.get("b").type == "FOLDER"  # type: ignore[union-attr]
    fresh.put_image("a", [band(np.full((4, 4), 3))])
    assert len(list((catalog.root / "a").iterdir())) == 2, "what the cut left is swept"


def test_full_disk_keeps_the_old_image(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    import rasterio

    catalog.put_image("a", [band(np.full((4, 4), 1))])

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rasterio, "open", full)
    with pytest.raises(StorageError, match="The disk is full"):
        catalog.put_image("a", [band(np.full((4, 4), 2))])
    monkeypatch.undo()
    assert (catalog.get("a").bands[0].read(0, 0, 4, 0, 4)[0] == 1).all()  # type: ignore[union-attr]


def test_replacing_is_seen_by_another_catalogue(catalog: Catalog) -> None:
    other = Catalog(catalog.root)
    catalog.put_collection("c")
    for number in range(3):
        catalog.put_image(f"c/i{number}", [band(np.full((4, 4), number))])
    assert [a.index for a in other.children("c")] == ["i0", "i1", "i2"]
    before = other.generation
    catalog.put_image("c/i1", [band(np.full((4, 4), 9))], {"new": True})
    assert other.generation != before
    changed = other.children("c")[1]
    assert changed.properties == {"new": True}
    assert (changed.bands[0].read(0, 0, 4, 0, 4)[0] == 9).all()
    catalog.delete("c/i0")
    assert [a.index for a in other.children("c")] == ["i1", "i2"]
    assert other.get("c/i0") is None


def test_container_with_children_is_kept(catalog: Catalog) -> None:
    catalog.put_collection("c")
    catalog.put_image("c/i", [band(np.zeros((2, 2)))])
    with pytest.raises(DataError, match="has children"):
        catalog.delete("c")
    catalog.delete("c", recursive=True)
    assert catalog.get("c") is None
    with pytest.raises(DataError, match="does not exist"):
        catalog.delete("c")


def test_copy_and_properties(catalog: Catalog) -> None:
    catalog.put_image("a", [band(np.full((2, 2), 5))], {"p": 1, "q": 2}, start_ms=1)
    catalog.copy("a", "b")
    catalog.update_properties("b", {"p": None, "r": [1, 2]}, start_ms=7)
    b = catalog.get("b")
    assert b is not None and b.properties == {"q": 2, "r": [1, 2]} and b.start_ms == 7
    assert (b.bands[0].read(0, 0, 2, 0, 2)[0] == 5).all()
    assert catalog.get("a").properties == {"p": 1, "q": 2}  # type: ignore[union-attr]
    with pytest.raises(DataError, match="Cannot overwrite"):
        catalog.copy("a", "b")


def test_tables(catalog: Catalog) -> None:
    point = {"type": "Point", "coordinates": [1, 2]}
    catalog.put_table("t", [{"geometry": point, "properties": {"n": np.int64(3)}}, {"id": "x"}])
    rows = catalog.features("t")
    assert [row["id"] for row in rows] == ["0", "x"]
    assert rows[0]["geometry"] == point and rows[0]["properties"] == {"n": 3}
    assert catalog.get("t").type == "TABLE"  # type: ignore[union-attr]
    with pytest.raises(DataError, match="not found"):
        catalog.features("nothing")


# ---- ids


@pytest.mark.parametrize(
    "given, kept",
    [
        ("COPERNICUS/S1_GRD", "COPERNICUS/S1_GRD"),
        ("projects/earthengine-public/assets/USGS/SRTMGL1_003", "USGS/SRTMGL1_003"),
        ("projects/earthengine-legacy/assets/projects/p/x", "projects/p/x"),
        ("projects/my-project/assets/a/b", "projects/my-project/assets/a/b"),
        ("users/me/", "users/me"),
    ],
)
def test_the_three_forms_of_an_id_are_one(given: str, kept: str) -> None:
    assert normalize_id(given) == kept
    assert normalize_id(asset_name(kept)) == kept


@pytest.mark.parametrize(
    "bad",
    [
        "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/./b", ".state/x", "a/.hidden",
        "a\0b", "a/b\n", "a b", "a\\b", "C:x", "ä", "a/asset.json", "x" * 3000, "a/" + "y" * 250,
        "projects/earthengine-public/assets/../../etc", "%2e%2e/x", "a..b", "a*",
    ],
)  # fmt: skip
def test_ids_that_could_leave_the_catalogue_are_refused(catalog: Catalog, bad: str) -> None:
    with pytest.raises(DataError, match="is not valid"):
        catalog.get(bad)
    with pytest.raises(DataError, match="is not valid"):
        catalog.put_folder(bad)


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_text_leads_out_of_the_catalogue(text: str) -> None:
    try:
        kept = normalize_id(text)
    except DataError:
        return
    root = Path("/catalog")
    assert Path(os.path.normpath(root / kept)).is_relative_to(root)
    assert normalize_id(kept) == kept


def test_links_and_foreign_file_names_are_not_followed(catalog: Catalog, tmp_path: Path) -> None:
    outside = Catalog(tmp_path / "outside", writable=True)
    outside.put_image("secret", [band(np.zeros((2, 2)))])
    (catalog.root / "link").symlink_to(outside.root / "secret")
    (catalog.root / "up").symlink_to(outside.root)
    assert catalog.get("link") is None and catalog.get("up/secret") is None
    assert catalog.children() == []
    with pytest.raises(DataError, match="leads out of the catalogue"):
        catalog.put_folder("up/new")
    catalog.put_image("a", [band(np.zeros((2, 2)))])
    manifest = catalog.root / "a" / "asset.json"
    data = next((catalog.root / "a").glob("*.tif")).name
    manifest.write_text(manifest.read_text().replace(data, "../../outside/secret/x.tif"))
    with pytest.raises(DataError, match="is not the name of a data file"):
        catalog.get("a")


# ---- words


@pytest.mark.parametrize(
    "bands, words",
    [
        ([], "expected one or more bands"),
        ([band(np.zeros((2, 2))), band(np.zeros((2, 2)))], "each once"),
        ([band(np.zeros(4))], "2 dimensions"),
        ([band(np.zeros((2, 2)), mask=np.ones((3, 3)))], r"mask has shape \(3, 3\)"),
        ([band(np.zeros((2, 2)), pyramiding="MEDIAN")], "is none of MEAN"),
        ([BandData("a", np.zeros((2, 2)), "EPSG:999999", GRID[1])], "not a known CRS"),
    ],
)
def test_images_that_cannot_be_put(catalog: Catalog, bands: list[BandData], words: str) -> None:
    with pytest.raises(DataError, match=words):
        catalog.put_image("a", bands)


def test_properties_must_be_json(catalog: Catalog) -> None:
    with pytest.raises(DataError, match="cannot be written as JSON"):
        catalog.put_image("a", [band(np.zeros((2, 2)))], {"x": float("nan")})
    with pytest.raises(DataError, match="cannot be written as JSON"):
        catalog.put_folder("b", {"x": object()})


def test_damaged_files_are_named(catalog: Catalog) -> None:
    catalog.put_image("a", [band(np.random.default_rng(0).random((300, 300)))])
    image = catalog.get("a")
    assert image is not None
    path = sorted((catalog.root / "a").glob("*_0.tif"))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{path.name} cannot be read"):
        image.bands[0].read(0, 0, 300, 0, 300)
    (catalog.root / "a" / "asset.json").write_text("{")
    with pytest.raises(DataError, match="is not the description of an asset"):
        catalog.get("a")


def test_a_missing_catalogue_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="thawslump emulator ingest"):
        Catalog(tmp_path / "none")
    Catalog(tmp_path / "new", writable=True)
    with pytest.raises(StorageError, match="opened for reading only"):
        Catalog(tmp_path / "new").put_folder("a")


def test_folders_without_a_description(catalog: Catalog) -> None:
    """One that leads to assets is a FOLDER; what a stopped writer left is nothing."""
    catalog.put_image("top/deep/a", [band(np.ones((2, 2)))])
    (catalog.root / "top" / "left").mkdir()
    (catalog.root / "top" / "left" / "3f0c12aa0000_0_0.tif").write_bytes(b"half")
    folder = catalog.get("top/deep")
    assert folder is not None and folder.type == "FOLDER"
    assert catalog.get("top/left") is None
    assert [child.id for child in catalog.children("top")] == ["top/deep"]
    catalog.put_image("top/left", [band(np.ones((2, 2)))])
    assert [child.id for child in catalog.children("top")] == ["top/deep", "top/left"]
