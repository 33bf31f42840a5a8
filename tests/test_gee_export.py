"""Exports: surveyed, cut, fetched, verified, kept over a kill, catalogued."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from affine import Affine
from gee_world import CRS, GIVEN, NORTH, WEST, Array, World, a_site, make_world
from googleapiclient.errors import HttpError
from httplib2 import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from gee.config import BackendConfig, ExportConfig
from gee.exports.check import check
from gee.exports.faults import Fault, classify, patiently
from gee.exports.fetch import Checkpoint, Tally, decode, fetch
from gee.exports.plan import Tile, request_grid, tiles, totals
from gee.exports.products import Product
from gee.exports.step import run
from gee.exports.survey import survey
from gee.session import connect
from gee.steps import catalog_digest, plan_export, plan_valley
from gee.valley.write import VERSION
from thawslump.cli import main
from thawslump.config import save_yaml
from thawslump.errors import BackendError, ConfigError, DataError
from thawslump.files import sha256
from thawslump.raster import read, read_float
from thawslump.site import Site, Window
from thawslump.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]


# Cutting -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(16, 400))
def test_tiles_cover_every_pixel_once(rows: int, cols: int, side: int) -> None:
    count = np.zeros((rows, cols), int)
    for tile in tiles((rows, cols), side):
        assert max(tile.height, tile.width) <= side
        count[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width] += 1
    assert (count == 1).all()


def test_tiles_stay_below_the_limit_of_one_answer() -> None:
    largest = max(tile.height * tile.width * 400 for tile in tiles((9000, 9000), 4096, 400))
    assert largest <= 48_000_000


def test_request_grid_starts_at_the_tile() -> None:
    grid = GeoBox((100, 100), Affine(10, 0, 500_000, 0, -10, 6_000_000), CRS)
    asked = request_grid(grid, Tile(20, 30, 5, 7))
    assert asked["dimensions"] == {"width": 7, "height": 5}
    assert asked["affineTransform"]["translateX"] == 500_300
    assert asked["affineTransform"]["translateY"] == 5_999_800
    assert asked["crsCode"] == CRS


# Faults --------------------------------------------------------------------------------------


def _as_client(message: str, state: int) -> ee.EEException:
    """An error as the client raises it: translated from an HTTP error."""
    body = json.dumps({"error": {"message": message}}).encode()
    try:
        try:
            raise HttpError(Response({"status": state}), body)
        except HttpError:
            raise ee.EEException(message)  # noqa: B904  (as the client does)
    except ee.EEException as error:
        return error


@pytest.mark.parametrize(
    ("message", "state", "fault"),
    [
        ("User memory limit exceeded.", 400, Fault.TOO_LARGE),
        ("Computation timed out.", 500, Fault.TOO_LARGE),
        (
            "Total request size (58720256 bytes) must be less than or equal to 50331648 bytes.",
            400,
            Fault.TOO_LARGE,
        ),
        ("Too Many Requests: Request was rejected because ...", 429, Fault.PASSING),
        ("Too many concurrent aggregations.", 400, Fault.PASSING),
        ("The service is currently unavailable.", 503, Fault.PASSING),
        ("anything", 502, Fault.PASSING),
        ("Image.select: Band pattern 'B99' did not match any bands.", 400, Fault.LASTING),
        ("Caller does not have required permission to use project p.", 403, Fault.LASTING),
    ],
)
def test_faults_are_told_apart(message: str, state: int, fault: Fault) -> None:
    assert classify(_as_client(message, state)) is fault


@pytest.mark.parametrize("error", [ConnectionError("reset"), TimeoutError("slow")])
def test_a_lost_connection_passes(error: Exception) -> None:
    assert classify(error) is Fault.PASSING


def test_waits_grow_and_end() -> None:
    waits: list[float] = []
    with pytest.raises(BackendError, match=r"No answer from here after 4 tries.*reset by peer"):
        patiently(_failing, where="here", retries=3, backoff=2.0, sleep=waits.append)
    assert len(waits) == 3
    assert 1 <= waits[0] <= 2 <= waits[1] <= 4 <= waits[2] <= 8


def _failing() -> None:
    raise ConnectionError("reset by peer")


def test_a_lasting_fault_is_not_tried_again() -> None:
    calls: list[int] = []

    def ask() -> None:
        calls.append(1)
        raise _as_client("Unknown asset", 400)

    with pytest.raises(ee.EEException, match="Unknown asset"):
        patiently(ask, where="here", retries=5, backoff=0)
    assert len(calls) == 1


# Fetching ------------------------------------------------------------------------------------


def a_product(rows: int = 96, cols: int = 80) -> Product:
    grid = GeoBox((rows, cols), Affine(10, 0, WEST, 0, -10, NORTH), CRS)
    return Product(
        "stack", None, grid, ("a", "b"), "float32", -99999.0, float("nan"), ("1", "1"), ("x", "x")
    )


def truth(product: Product) -> Array:
    rows, cols = product.grid.shape
    values = np.arange(rows * cols, dtype="float32").reshape(rows, cols)
    return np.stack([values, -values])


def npy(product: Product, tile: Tile) -> bytes:
    whole = truth(product)
    part = np.zeros((tile.height, tile.width), [(name, "f4") for name in product.bands])
    for index, name in enumerate(product.bands):
        part[name] = whole[
            index, tile.row : tile.row + tile.height, tile.col : tile.col + tile.width
        ]
    buffer = io.BytesIO()
    np.save(buffer, part)
    return buffer.getvalue()


class Service:
    """Answers tiles, with faults where told."""

    def __init__(self, faults: dict[int, Exception | bytes] | None = None, largest: int = 10**9):
        self.faults, self.largest = dict(faults or {}), largest
        self.asked: list[Tile] = []
        self.lock = threading.Lock()

    def __call__(self, product: Product, tile: Tile) -> bytes:
        with self.lock:
            number = len(self.asked)
            self.asked.append(tile)
        fault = self.faults.get(number)
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            return fault
        if tile.height * tile.width > self.largest:
            raise _as_client("User memory limit exceeded.", 400)
        return npy(product, tile)


def fetched(folder: Path, service: Service, **changes: Any) -> tuple[Array, Tally]:
    config = ExportConfig(**({"tile": 32, "smallest_tile": 8, "backoff": 0} | changes))
    product, tally = a_product(), Tally()
    done: list[int] = []
    array = fetch(
        product, Checkpoint(folder, "x" * 16), config, "the test", tally, done.append, service
    )
    assert sum(done) == 96 * 80
    return array, tally


def test_a_product_comes_back_whole(tmp_path: Path) -> None:
    array, tally = fetched(tmp_path, Service())
    np.testing.assert_array_equal(array, truth(a_product()))
    assert (tally.requests, tally.retries, tally.splits) == (9, 0, 0)


def test_passing_faults_are_tried_again(tmp_path: Path) -> None:
    faults = {
        0: ConnectionError("reset"),
        3: _as_client("Too Many Requests", 429),
        5: b"half an ans",
    }
    array, tally = fetched(tmp_path, Service(faults))
    np.testing.assert_array_equal(array, truth(a_product()))
    assert (tally.requests, tally.retries) == (12, 3)


def test_a_tile_that_is_too_much_is_halved(tmp_path: Path) -> None:
    service = Service(largest=300)
    array, tally = fetched(tmp_path, service)
    np.testing.assert_array_equal(array, truth(a_product()))
    assert tally.retries == 0 and tally.splits > 0
    assert min(min(t.height, t.width) for t in service.asked) >= 8


def test_halving_ends_with_the_words_of_the_service(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"(?s)refused a tile.*User memory limit.*shorter"):
        fetched(tmp_path, Service(largest=10))


def test_a_lasting_fault_ends_the_export_and_keeps_what_is_done(tmp_path: Path) -> None:
    service = Service({4: _as_client("Band pattern 'q' did not match any bands.", 400)})
    with pytest.raises(BackendError, match=r"(?s)refused a tile of stack .*Band pattern 'q'"):
        fetched(tmp_path, service, workers=1)
    assert len(service.asked) == 5
    again = Service()
    array, tally = fetched(tmp_path, again, workers=1)
    np.testing.assert_array_equal(array, truth(a_product()))
    assert tally.kept == 4 and len(again.asked) == 5


def test_a_damaged_checkpoint_is_fetched_again(tmp_path: Path) -> None:
    fetched(tmp_path, Service())
    files = sorted((tmp_path / ("x" * 16)).glob("*.npy"))
    data = bytearray(files[0].read_bytes())
    data[-1] ^= 255
    files[0].write_bytes(bytes(data))
    files[1].write_bytes(files[1].read_bytes()[:50])
    service = Service()
    array, tally = fetched(tmp_path, service)
    np.testing.assert_array_equal(array, truth(a_product()))
    assert tally.kept == 7 and len(service.asked) == 2


def test_answers_are_verified() -> None:
    product, tile = a_product(), Tile(0, 0, 4, 4)
    with pytest.raises(BackendError, match=r"shape \(4, 5\) instead of a, b of shape \(4, 4\)"):
        decode(npy(product, Tile(0, 0, 4, 5)), tile, product)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4), [("a", "f8"), ("b", "f8")]))
    with pytest.raises(BackendError, match="data type float64 instead of float32"):
        decode(buffer.getvalue(), tile, product)
    with pytest.raises(ConnectionError, match="damaged answer"):
        decode(npy(product, tile)[:-3], tile, product)


def test_masked_and_infinite_pixels_become_nan() -> None:
    product, tile = a_product(), Tile(0, 0, 1, 3)
    buffer = io.BytesIO()
    values = np.array([[(-99999, 1), (np.inf, 2), (5, -np.inf)]], [("a", "f4"), ("b", "f4")])
    np.save(buffer, values)
    found = decode(buffer.getvalue(), tile, product)
    np.testing.assert_array_equal(found, [[[np.nan, np.nan, 5]], [[1, 2, np.nan]]])


# The whole export ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("gee") / "catalog")


def a_workspace(
    folder: Path, catalog: Path | None, site: Site | None = None, **config: Any
) -> Workspace:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "thawslump.yaml").write_text(json.dumps({"name": "test", **config}))
    save_yaml(folder / "areas" / "place.yaml", site or a_site())
    if catalog is not None and not (folder / "catalog").exists():
        (folder / "catalog").symlink_to(catalog)
    return Workspace(folder)


def exported(workspace: Workspace) -> dict[str, float | int | str]:
    (item,) = plan_export(workspace, 0)
    return run(item, workspace, lambda fraction, words: None)


@pytest.fixture(scope="module")
def ready(
    made: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, dict[str, Any]]:
    workspace = a_workspace(tmp_path_factory.mktemp("ready"), made.folder, export={"tile": 32})
    return workspace, exported(workspace)


def test_export_writes_named_bands_on_the_pinned_grid(ready: tuple[Workspace, Any]) -> None:
    workspace, facts = ready
    site = workspace.site("place")
    stack = read_float(workspace.stack("place"))
    assert stack.names == GIVEN
    assert stack.grid == site.grid()
    assert stack.array.dtype == np.float32
    shares = {
        name: np.isfinite(array).mean()
        for name, array in zip(stack.names, stack.array, strict=True)
    }
    assert all(share == 1.0 for name, share in shares.items() if name != "dNDVI")
    assert 0.5 < shares["dNDVI"] < 1.0
    context = read(workspace.context("place"))
    assert context.names == site.context
    assert (context.array.dtype, context.nodata) == (np.uint16, 65535)
    factors = read_float(workspace.factors("place"))
    assert factors.names == site.factors
    assert factors.grid.transform.a == 30
    assert factors.grid.transform.c == stack.grid.transform.c
    assert facts["requests"] > 10 and facts["splits"] == 0
    assert not (workspace.tiles("place") / "checkpoint").exists()


def test_tiles_join_without_a_seam(
    ready: tuple[Workspace, Any], made: World, tmp_path: Path
) -> None:
    """One request for all, or many small ones: the same pixels."""
    whole = a_workspace(tmp_path, made.folder, export={"tile": 1024})
    exported(whole)
    for name in ("stack.tif", "factors.tif", "context.tif"):
        ours = read(ready[0].tiles("place") / name).array
        np.testing.assert_array_equal(ours, read(whole.tiles("place") / name).array)


def test_the_same_export_gives_the_same_bytes(
    ready: tuple[Workspace, Any], made: World, tmp_path: Path
) -> None:
    again = a_workspace(tmp_path, made.folder, export={"tile": 32})
    exported(again)
    for name in ("stack.tif", "context.tif", "factors.tif", "item.json"):
        assert sha256(ready[0].tiles("place") / name) == sha256(again.tiles("place") / name)


def test_units_and_sources_are_in_the_files(ready: tuple[Workspace, Any]) -> None:
    import rasterio

    with rasterio.open(ready[0].stack("place")) as source:
        assert source.units[source.descriptions.index("preVV")] == "dB"
        assert source.tags(source.descriptions.index("slope") + 1)["source"].endswith("GLO30")
        assert source.tags()["site"] == "place"


def test_item_names_what_the_tiles_are_made_of(ready: tuple[Workspace, Any]) -> None:
    import pystac

    workspace, _ = ready
    path = workspace.item("place")
    item = pystac.Item.from_dict(json.loads(path.read_text()))
    images = item.properties["thawslump:images"]
    assert images["s2"]["collection"] == "COPERNICUS/S2_SR_HARMONIZED"
    assert [image["date"] for image in images["s2"]["pre"]] == [
        "2020-06-10",
        "2020-07-10",
        "2020-08-10",
    ]
    assert item.properties["thawslump:orbits"] == [["DESCENDING", 95]]
    assert item.properties["proj:code"] == CRS
    assert item.properties["thawslump:made_up"] is False
    for name in ("stack", "context", "factors"):
        asset = item.assets[name]
        file = path.parent / asset.href
        assert asset.extra_fields["file:checksum"] == "1220" + sha256(file)
        assert asset.extra_fields["file:size"] == file.stat().st_size
    assert [band["name"] for band in item.assets["stack"].extra_fields["bands"]] == list(GIVEN)


def test_catalogue_of_the_tiles_can_be_walked(ready: tuple[Workspace, Any]) -> None:
    import pystac

    catalog = pystac.Catalog.from_file(str(ready[0].root / "tiles" / "catalog.json"))
    (item,) = catalog.get_items()
    assert item.id == "place" and item.get_parent() is not None
    assert Path(item.assets["stack"].get_absolute_href() or "").exists()


def test_made_up_data_are_called_made_up(made: World, tmp_path: Path) -> None:
    workspace = a_workspace(tmp_path, made.folder, a_site(made_up=True))
    exported(workspace)
    item = json.loads(workspace.item("place").read_text())
    assert item["properties"]["thawslump:made_up"] is True
    assert "made up" in item["properties"]["title"]


def test_absent_bands_are_absent(made: World, tmp_path: Path) -> None:
    workspace = a_workspace(tmp_path, made.folder, a_site(sources={"s1": "none"}))
    exported(workspace)
    assert read(workspace.stack("place")).names == ("elevation", "slope", "dNDVI")


def test_a_killed_export_goes_on_where_it_was(
    ready: tuple[Workspace, Any], made: World, tmp_path: Path
) -> None:
    """SIGKILL in the middle: finished tiles are not asked for again; the result is the same."""
    workspace = a_workspace(tmp_path, made.folder, export={"tile": 32, "workers": 1})
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from gee.exports import fetch, step\n"
        "from gee.steps import plan_export\n"
        "from thawslump.workspace import Workspace\n"
        "keep = fetch.Checkpoint.keep\n"
        "def slowly(self, tile, array):\n"
        "    keep(self, tile, array)\n"
        "    time.sleep(0.2)\n"
        "fetch.Checkpoint.keep = slowly\n"
        "workspace = Workspace(Path(sys.argv[1]))\n"
        "step.run(plan_export(workspace, 0)[0], workspace, lambda fraction, words: None)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment)
    checkpoint = workspace.tiles("place") / "checkpoint"
    try:
        until = time.monotonic() + 60
        while len(list(checkpoint.rglob("*.npy"))) < 2:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list(checkpoint.rglob("*.npy")))
    facts = exported(workspace)
    assert facts["tiles_kept"] == kept >= 2
    for name in ("stack.tif", "context.tif", "factors.tif"):
        assert sha256(workspace.tiles("place") / name) == sha256(ready[0].tiles("place") / name)


def test_checkpoints_of_other_settings_are_not_taken_over(tmp_path: Path) -> None:
    product, config = a_product(), ExportConfig(tile=32)
    for identity in ("a" * 64, "b" * 64):
        service, tally = Service(), Tally()
        checkpoint = Checkpoint(tmp_path, identity)
        fetch(product, checkpoint, config, "here", tally, lambda pixels: None, service)
        assert tally.kept == 0 and len(service.asked) == 9


# What cannot work is refused before any pixel -------------------------------------------------


def refused(made: World, site: Site) -> str:
    with connect(BackendConfig(), made.folder), pytest.raises(DataError) as caught:
        survey(site)
    return str(caught.value)


def test_a_window_without_images_is_named_with_what_is_there(made: World) -> None:
    empty = Window(start=dt.date(2019, 6, 1), end=dt.date(2019, 9, 1))
    words = refused(made, a_site(pre=empty))
    assert "COPERNICUS/S2_SR_HARMONIZED has no image of site place in the window pre" in words
    assert "2019-06-01 .. 2019-09-01" in words
    assert "6 dates, 2020-06-10 to 2021-08-12; nearest: 2020-06-10, 2020-07-10" in words
    assert "Move or widen the window `pre`" in words


def test_an_area_outside_the_data_is_named(made: World) -> None:
    words = refused(made, a_site(bounds=(20.0, 50.0, 20.01, 50.01), crs=None))
    assert "site place (20.0000, 50.0000 to 20.0100, 50.0100) lies outside the images" in words
    assert "none of its 6 images touches it" in words


def test_a_collection_that_is_not_there_is_named(made: World) -> None:
    words = refused(made, a_site(sources={"s2": "COPERNICUS/S2_MISSING"}))
    assert "COPERNICUS/S2_MISSING of site place cannot be read" in words
    assert "not found" in words


def test_a_pass_that_is_not_there_is_named(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog")
    for path in (tmp_path / "catalog/COPERNICUS/S1_GRD").glob("*D"):
        shutil.rmtree(path)
    words = refused(made, a_site(orbit_pass="DESCENDING"))
    assert "no DESCENDING IW image with VV and VH over site place" in words
    assert "6 ASCENDING" in words


def test_an_orbit_on_one_side_only_is_refused(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog")
    radar = tmp_path / "catalog/COPERNICUS/S1_GRD"
    for path in [*radar.glob("2020*D"), *radar.glob("2021*A")]:
        shutil.rmtree(path)
    words = refused(made, a_site(orbit_pass=None))
    assert "no orbit with images in both windows: ascending 44 before, descending 95 after" in words


def test_images_of_other_orbits_are_left_out(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog")
    for path in (tmp_path / "catalog/COPERNICUS/S1_GRD").glob("2021*A"):
        shutil.rmtree(path)
    with connect(BackendConfig(), made.folder):
        found = survey(a_site(orbit_pass=None))
    assert found.orbits == (("DESCENDING", 95),)
    assert len(found.pictures["s1", "pre"]) == 3


def test_one_orbit_is_used_the_one_that_shows_the_site_most(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog")
    for path in (tmp_path / "catalog/COPERNICUS/S1_GRD").glob("20200605D"):
        shutil.rmtree(path)
    with connect(BackendConfig(), made.folder):
        found = survey(a_site(orbit_pass=None))
        chosen = survey(a_site(orbit_pass=None, relative_orbit=95))
    assert found.orbits == (("ASCENDING", 44),)
    assert found.other_orbits == (("DESCENDING", 95),)
    assert {p.orbit for p in found.pictures["s1", "post"]} == {("ASCENDING", 44)}
    assert all(p.share == pytest.approx(1, abs=1e-3) for p in found.pictures["s1", "pre"])
    assert chosen.orbits == (("DESCENDING", 95),)
    assert "no images of relative orbit 7 in both windows; there are" in refused(
        made, a_site(orbit_pass=None, relative_orbit=7)
    )


def test_a_mix_of_satellites_is_named(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog")
    from gee.emulator.catalog import Catalog

    catalog = Catalog(made.folder, writable=True)
    for image in catalog.children("COPERNICUS/S1_GRD"):
        craft = "B" if image.index.startswith("202006") else "A"
        catalog.update_properties(image.id, {"platform_number": craft})
    found = check(a_workspace(tmp_path / "work", made.folder), "place")
    assert found["platforms"] == {"pre": {"B": 3}, "post": {"A": 3}}
    assert "Warning: images of Sentinel-1 B before and A after" in found["text"]


def test_images_without_incidence_angle_need_no_slope_correction(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog", angle=False)
    words = refused(made, a_site())
    assert "have no band angle (incidence angle), which slope_correction: volume" in words
    assert "Set slope_correction: none for site place" in words
    with connect(BackendConfig(), made.folder):
        assert survey(a_site(slope_correction="none")).images == 12


def test_a_band_that_comes_out_empty_is_refused(made: World, tmp_path: Path) -> None:
    """Every pixel of the window under cloud."""
    site = a_site(
        pre=Window(start=dt.date(2020, 6, 1), end=dt.date(2020, 7, 1)),
        sources={"s1": "none", "s2": "users/a/cloudy"},
    )
    from gee_world import band, world

    from gee.emulator.catalog import Catalog

    folder = tmp_path / "catalog"
    shutil.copytree(made.folder, folder)
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("users/a/cloudy")
    grid = world(10)
    for date in ("2020-06-10", "2021-06-12"):
        bands = [
            band(name, np.full(grid.shape, 1000, "uint16"), grid)
            for name in ("B2", "B3", "B4", "B8")
        ]
        bands.append(band("SCL", np.full(grid.shape, 9, "uint8"), grid))
        start = int(dt.datetime.fromisoformat(date + "T00:00:00+00:00").timestamp() * 1000)
        catalog.put_image(f"users/a/cloudy/{date}", bands, {}, start_ms=start)
    workspace = a_workspace(tmp_path / "workspace", folder, site)
    with pytest.raises(DataError, match=r"(?s)band dNDVI of stack is empty.*2020-06-10.*2021-06"):
        exported(workspace)


def test_check_tells_what_an_export_takes(made: World, tmp_path: Path) -> None:
    found = check(a_workspace(tmp_path, made.folder), "place")
    assert found["images"]["s1 pre"] == ["2020-06-05", "2020-06-17", "2020-06-29"]
    assert found["requests"] >= 3
    assert "estimate" in found["text"] and "s2 post: 3 images" in found["text"]
    assert "slope correction: volume; seen at 37.9 degrees from the vertical" in found["text"]
    assert (found["radar"]["model"], found["radar"]["cut"]) == ("volume", False)
    assert not (tmp_path / "tiles").exists()


def test_commands_plan_and_run(
    made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = a_workspace(tmp_path, made.folder, executor={"kind": "serial"})
    for words in (["export", "plan"], ["export", "plan", "--json"], ["export", "run"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--workspace", str(tmp_path)])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        if words[-1] == "plan":
            assert "stack.tif: " in shown and "never held against a bill" in shown
        elif words[-1] == "--json":
            assert json.loads(shown)["files"]["factors"]["bands"] == list(a_site().factors)
    assert workspace.stack("place").exists() and workspace.item("place").exists()


# Backends ------------------------------------------------------------------------------------


def test_export_fails_when_nothing_listens_at_the_url(made: World, tmp_path: Path) -> None:
    """The workspace's own catalogue is no way around a stopped emulator."""
    url = "http://127.0.0.1:9"
    workspace = a_workspace(tmp_path, made.folder, backend={"url": url})
    with pytest.raises(BackendError, match=rf"(?s)emulator at {url}.*thawslump emulator serve"):
        exported(workspace)
    assert not workspace.stack("place").exists()


def test_an_emulator_that_stops_in_the_middle(
    ready: tuple[Workspace, Any], made: World, tmp_path: Path
) -> None:
    """Over HTTP: the export ends in words, keeps its tiles, and ends with the same bytes later."""
    server, url = serving(made.folder, 0)
    workspace = a_workspace(
        tmp_path,
        None,
        backend={"url": url},
        export={"tile": 32, "workers": 1, "retries": 1, "backoff": 0.01},
    )
    (item,) = plan_export(workspace, 0)
    tiles_of = workspace.tiles("place") / "checkpoint"

    def stop_early(fraction: float, words: str) -> None:
        if words.startswith("stack") and server.poll() is None:
            server.kill()
            server.wait()

    try:
        with pytest.raises(BackendError, match=rf"No answer from the emulator at {url} after 2"):
            run(item, workspace, stop_early)
    finally:
        stopped(server)
    kept = len(list(tiles_of.rglob("*.npy")))
    assert kept >= 1 and not workspace.stack("place").exists()
    server, _ = serving(made.folder, int(url.rpartition(":")[2]))
    try:
        facts = run(item, workspace, lambda fraction, words: None)
    finally:
        stopped(server)
    assert facts["tiles_kept"] == kept
    for name in ("stack.tif", "context.tif", "factors.tif", "item.json"):
        assert sha256(workspace.tiles("place") / name) == sha256(ready[0].tiles("place") / name)


def serving(catalog: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    """Start an emulator; return it and its address."""
    command = [sys.executable, "-m", "gee.emulator", str(catalog), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().split()[-1]


def stopped(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()
    if server.stdout is not None:
        server.stdout.close()


def test_export_without_a_catalogue_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"(?s)catalogue.*does not exist.*emulator ingest"):
        exported(a_workspace(tmp_path, None))


def test_live_service_without_credentials_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    backend = BackendConfig(kind="earthengine", project="some-project")
    with pytest.raises(BackendError, match="earthengine authenticate"), connect(backend):
        pass


def test_live_service_needs_a_project(tmp_path: Path) -> None:
    workspace = a_workspace(tmp_path, None, backend={"kind": "earthengine"})
    with pytest.raises(ConfigError, match="project is empty"):
        _ = workspace.config


def test_connecting_sends_nothing_to_the_internet(made: World, monkeypatch: Any) -> None:
    import urllib.request

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something else than the emulator was asked")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with connect(BackendConfig(), made.folder):
        assert ee.Number(2).add(3).getInfo() == 5


# Plans ---------------------------------------------------------------------------------------


def test_plan_follows_the_site_and_the_catalogue(made: World, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "catalog")
    workspace = a_workspace(tmp_path, None)
    (first,) = plan_export(workspace, 0)
    assert first.settings == plan_export(workspace, 0)[0].settings
    assert first.target == "gee.exports.step:run"
    assert workspace.item("place") in first.outputs
    later = a_workspace(tmp_path, None, a_site(slope_correction="none"))
    assert plan_export(later, 0)[0].settings != first.settings
    faster = a_workspace(tmp_path, None, export={"workers": 1, "tile": 64})
    assert plan_export(faster, 0)[0].settings == first.settings
    shutil.rmtree(next((tmp_path / "catalog/COPERNICUS/S1_GRD").glob("2020*")))
    assert plan_export(faster, 0)[0].settings != first.settings


def test_digest_leaves_other_collections_alone(made: World, tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(made.folder, folder)
    before = catalog_digest(folder, ["COPERNICUS/S1_GRD"])
    shutil.rmtree(folder / "users")
    assert catalog_digest(folder, ["COPERNICUS/S1_GRD"]) == before
    assert catalog_digest(folder, ["users/a/dem"]) != catalog_digest(made.folder, ["users/a/dem"])


def test_sites_of_own_files_are_not_exported(made: World, tmp_path: Path) -> None:
    workspace = a_workspace(tmp_path, made.folder, a_site(source="files"))
    assert plan_export(workspace, 0) == []
    assert totals(workspace)["requests"] == 0


def test_totals_count_what_is_left(
    ready: tuple[Workspace, Any], made: World, tmp_path: Path
) -> None:
    assert totals(ready[0])["pixels"] == 0
    left = totals(a_workspace(tmp_path, made.folder))
    rows, cols = a_site().grid().shape
    assert left["pixels"] == 2 * rows * cols + -(-rows // 3) * -(-cols // 3)
    assert left["requests"] == 3 and left["eecu_seconds"] > 0


def test_valley_is_planned_only_where_asked_for(tmp_path: Path) -> None:
    assert plan_valley(a_workspace(tmp_path, None), 0) == []
    valley = {"seed": 3, "rows": 128, "cols": 192}
    (item,) = plan_valley(a_workspace(tmp_path, None, valley=valley), 0)
    assert item.settings == valley
    assert item.target == "gee.valley.step:run"
    assert item.version == VERSION, "a ledger knows an older valley by its item's version"
