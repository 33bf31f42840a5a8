"""The scripts and exports on the live Earth Engine, wherever there are credentials for it.

    earthengine authenticate
    THAWSLUMP_EE_PROJECT=my-project pytest tests/test_live.py -m live

Reads public collections over one small place and a few hundred pixels of each; writes nothing,
unless THAWSLUMP_EE_DRIVE_FOLDER names a folder of Drive for one batch task of a few pixels. What
it costs was not measured; by count of pixels and images, a few EECU-minutes.

The same checks run on the made-up valley, asked through the emulator by the very route that the
live service takes (HTTP, a service account's key, a token): so that nothing here is untested where
there are no credentials. Nothing is claimed of the live service that these tests did not see.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from affine import Affine
from live_world import made_up_key, token_server

import gee
from gee.config import BackendConfig
from gee.emulator.catalog import BandData, Catalog
from gee.emulator.server import running
from gee.exports import batch, step
from gee.exports.faults import Fault, classify
from gee.exports.plan import Tile, request_grid
from gee.exports.products import products
from gee.exports.purpose import purpose
from gee.exports.survey import Survey, survey
from gee.grids import crs_code, factor_grid
from gee.scripts import factors, sentinel1, sentinel2, stack, terrain
from gee.scripts.place import source
from gee.scripts.sources import FACTOR_SOURCES
from gee.service import service as answers
from gee.session import aimed, connect
from gee.steps import plan_export
from gee.valley import build, demo_sites
from thawslump.bands import BANDS, CHANGE_STACK, EMBEDDING
from thawslump.config import save_yaml
from thawslump.grid import coarser
from thawslump.raster import read
from thawslump.site import Site, Window
from thawslump.workspace import Workspace

SHAPE = (128, 128)
SEED = 4
BYKOVSKY = Site(
    name="bykovsky",
    role="area",
    bounds=(129.20, 71.76, 129.24, 71.78),
    pre=Window(start="2019-06-25", end="2019-09-05"),
    post=Window(start="2022-06-25", end="2022-09-05"),
    # Assets of the user's own, where there are any.
    sources={
        key: os.environ[variable]
        for key, variable in (
            ("climate", "THAWSLUMP_EE_CLIMATE"),
            ("canopy", "THAWSLUMP_EE_CANOPY"),
        )
        if variable in os.environ
    },
)
FACTORS = (
    "elevation", "slope", "aspect", "curvature", "plan_curvature", "profile_curvature", "TPI",
    "TRI", "TWI", "SPI", "NDVI", "LST", "precipitation", "distance_rivers", "landcover",
    "embedding",
)  # fmt: skip
"""Every factor whose source has a default."""
FILL = -99999.0
SECRET = re.compile(rb"PRIVATE KEY|private_key|refresh_token|access_token|assertion=")

# xee 0.1.2 joins transforms with *, which affine 3.1 announces to drop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul instead of:PendingDeprecationWarning:xee.ext"
)


@dataclass
class Place:
    """Where the checks run: an endpoint, a site there, and what only one of the two can do."""

    backend: dict[str, Any]
    site: Site
    live: bool
    drive: str
    """Folder of Drive for a batch task; empty where none may be started."""
    left: Path | None = None
    """Where batch tasks of the emulator leave their files."""
    found: list[Survey] = field(default_factory=list)

    def config(self) -> BackendConfig:
        return BackendConfig(**self.backend)

    def survey(self) -> Survey:
        """Asked once for all tests."""
        if not self.found:
            self.found.append(survey(self.site))
        return self.found[0]

    def workspace(
        self, folder: Path, bands: tuple[str, ...] = CHANGE_STACK, **config: Any
    ) -> Workspace:
        """A workspace with the site, of which the live service shows 16 x 16 pixels only."""
        folder.mkdir(exist_ok=True)
        (folder / "thawslump.yaml").write_text(
            json.dumps({"backend": self.backend, **config}), encoding="utf-8"
        )
        tiny = self.site.model_copy(update={"bands": bands})
        if self.live:
            west, south, east, north = self.site.bounds
            x, y = (west + east) / 2, (south + north) / 2
            # Degrees of 160 m, less a pixel, at the latitude of the site.
            dx, dy = 150 / 111_320 / np.cos(np.radians(y)) / 2, 150 / 111_320 / 2
            tiny = tiny.model_copy(update={"bounds": (x - dx, y - dy, x + dx, y + dy)})
        save_yaml(folder / "areas" / f"{tiny.name}.yaml", tiny)
        return Workspace(folder)


def more_sources(folder: Path, site: Site) -> None:
    """Add made-up numbers for the sources of factors that the valley does not have."""
    catalog = Catalog(folder, writable=True)
    dice = np.random.default_rng(6)
    grid = coarser(site.grid(), 30.0)
    # Four pixels more on every side.
    corner = grid.transform @ Affine.translation(-4, -4)
    shape = (grid.shape[0] + 8, grid.shape[1] + 8)

    def put(name: str, values: dict[str, np.ndarray], date: str = "") -> None:
        start = None if not date else int(dt.datetime.fromisoformat(date).timestamp() * 1000)
        bands = [
            BandData(key, array, crs_code(grid), tuple(corner)[:6]) for key, array in values.items()
        ]
        catalog.put_image(name, bands, {"made_up": True}, start_ms=start)

    put("MERIT/Hydro/v1_0_1", {"upa": dice.lognormal(0, 2, shape).astype("float32")})
    catalog.put_collection("LANDSAT/LC08/C02/T1_L2")
    put(
        "LANDSAT/LC08/C02/T1_L2/LC08_128010_20200710",
        {
            "ST_B10": dice.integers(40_000, 44_000, shape).astype("uint16"),
            "QA_PIXEL": np.full(shape, 21_824, "uint16"),  # clear, as the product's guide says
        },
        "2020-07-10T03:00:00+00:00",
    )
    catalog.put_collection("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL")
    axes = {name: dice.uniform(-1, 1, shape).astype("float32") for name in EMBEDDING}
    put("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL/made_up", axes, "2019-01-01T00:00:00+00:00")


@pytest.fixture(scope="session")
def valley(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The made-up valley behind an emulator that is spoken to as the live service is."""
    folder = tmp_path_factory.mktemp("live")
    build(folder / "catalog", folder / "truth", seed=SEED, shape=SHAPE)
    (area,) = (values for values in demo_sites(SEED, SHAPE) if values["role"] == "area")
    more_sources(folder / "catalog", Site(**area))
    with (
        token_server() as (token_uri, _),
        running(folder / "catalog", state=folder / "state") as url,
    ):
        key = made_up_key(folder / "key.json", token_uri)
        backend = {
            "kind": "earthengine", "project": "made-up", "url": url,
            "service_account_key": str(key),
        }  # fmt: skip
        yield Place(backend, Site(**area), False, "tests", folder / "state" / "exports" / "tests")


@pytest.fixture(scope="session")
def service() -> Place:
    project = os.environ.get("THAWSLUMP_EE_PROJECT")
    if not project:
        pytest.skip(
            "the live Earth Engine was not asked: set THAWSLUMP_EE_PROJECT to a project of yours"
        )
    backend = {"kind": "earthengine", "project": project}
    return Place(backend, BYKOVSKY, True, os.environ.get("THAWSLUMP_EE_DRIVE_FOLDER", ""))


@pytest.fixture(params=["valley", pytest.param("service", marks=pytest.mark.live)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def here(place: Place) -> Iterator[Place]:
    """The place, connected to its endpoint."""
    with connect(place.config()):
        yield place


def has(name: str) -> bool:
    """Tell whether an asset is there."""
    try:
        ee.data.getAsset(name.removesuffix("/*"))
    except ee.EEException:
        return False
    return True


def pixels(image: ee.Image, grid: Any, side: int = 16) -> dict[str, np.ndarray]:
    """Values from the middle of a grid, NaN where masked."""
    rows, cols = grid.shape
    side = min(side, rows, cols)
    tile = Tile((rows - side) // 2, (cols - side) // 2, side, side)
    answer = ee.data.computePixels(
        {
            "expression": image.toFloat().unmask(FILL, False),
            "fileFormat": "NUMPY_NDARRAY",
            "grid": request_grid(grid, tile),
        }
    )
    return {
        name: np.where(answer[name] == FILL, np.nan, answer[name]) for name in answer.dtype.names
    }


def within(values: np.ndarray, low: float, high: float) -> bool:
    """Tell whether there are values, all of them between two numbers."""
    seen = values[np.isfinite(values)]
    return bool(seen.size) and low <= float(seen.min()) and float(seen.max()) <= high


# The account ------------------------------------------------------------------------------------


def test_doctor_is_answered(place: Place, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in answers(place.workspace(tmp_path))}
    assert {"backend", "project", "quota", "endpoint"} <= set(rows)
    assert "fail" not in {row["state"] for row in rows.values()}, rows
    assert "answers" in rows["backend"]["words"]
    assert "batch tasks at a time" in rows["quota"]["words"]


def test_stored_pixels_are_the_same_from_both_endpoints(here: Place) -> None:
    image = terrain.elevation(here.site)
    assert purpose(image) == "stored"
    standard = pixels(image, here.site.grid())
    with aimed(here.config(), "stored"):
        other = pixels(image, here.site.grid())
    np.testing.assert_array_equal(standard["elevation"], other["elevation"])


def test_faults_are_told_apart_by_the_words_of_the_service(here: Place) -> None:
    with pytest.raises(ee.EEException) as missing:
        ee.Image("projects/earthengine-public/assets/no/such/asset").getInfo()
    assert classify(missing.value) is Fault.LASTING
    with pytest.raises(ee.EEException) as large:
        grid = request_grid(here.site.grid(), Tile(0, 0, 10_000, 10_000))
        ee.data.computePixels(
            {"expression": ee.Image(1).toDouble(), "fileFormat": "NPY", "grid": grid}
        )
    assert classify(large.value) is Fault.TOO_LARGE


# The survey -------------------------------------------------------------------------------------


def test_the_survey_finds_images_of_both_windows(here: Place) -> None:
    found = here.survey()
    assert found.made_up is not here.live
    for key in ("s1", "s2"):
        for side in ("pre", "post"):
            assert found.pictures[key, side], f"no {key} image {side}"  # type: ignore[index]
    assert found.orbits is not None and len(found.orbits) == 1
    assert found.platforms["pre"] and found.platforms["post"]


def test_what_is_settled_leaves_no_band_out_without_a_reason(here: Place) -> None:
    settled = here.survey().settled
    assert settled.bands is not None
    assert set(settled.bands) | set(settled.left_out) == set(CHANGE_STACK)
    assert not set(settled.bands) & set(settled.left_out)
    own = {"climate": "KG_climate", "canopy": "Popatpv_treeheight"}
    assert set(settled.left_out) == {
        name for key, name in own.items() if key not in here.site.sources
    }
    assert settled.model in ("volume", "surface")
    assert settled.vegetated is not None and 0 <= settled.vegetated <= 1


def test_the_direction_to_the_radar_agrees_with_the_orbit(here: Place) -> None:
    found = here.survey()
    look = found.settled.look
    assert found.orbits is not None and look is not None
    expected = sentinel1.orbit_look(here.site, found.orbits[0].direction)
    # The valley's satellite flies by the geometry of its own scenes, not by that of an orbit.
    assert abs((look - expected + 180) % 360 - 180) < (10 if here.live else 20)


# Radar ------------------------------------------------------------------------------------------


def test_the_stack_has_its_bands_and_plausible_values(here: Place) -> None:
    settled = here.survey().settled
    image = stack.stack(here.site, settled=settled)
    assert tuple(image.bandNames().getInfo()) == settled.bands
    values = pixels(image, here.site.grid())
    for name, low, high in (
        # Where noise was subtracted, what is left over water has no lower bound.
        ("preVV", -80, 10), ("postVV", -80, 10), ("preVH", -80, 5), ("postVH", -80, 5),
        ("layover", 0, 1), ("shadow", 0, 1), ("liaDeg", 0, 90), ("elevation", -500, 9000),
        ("slope", 0, 90), ("CART_LC_classified", 1, 8), ("dNDVI", -2, 2),
    ):  # fmt: skip
        assert within(values[name], low, high), name
    assert -25 < np.nanmedian(values["preVV"]) < 0 and -35 < np.nanmedian(values["preVH"]) < -8
    for how in ("VV", "VH"):
        change = values[f"post{how}"] - values[f"pre{how}"]
        np.testing.assert_allclose(values[f"d{how}"], change, atol=1e-4)
    for name in ("layover", "shadow", "CART_LC_classified"):
        seen = values[name][np.isfinite(values[name])]
        assert np.array_equal(seen, np.round(seen)), name


def test_slope_corrections_change_backscatter_on_slopes(here: Place) -> None:
    settled = here.survey().settled
    found = {}
    for model in ("volume", "surface", "none"):
        site = here.site.model_copy(update={"slope_correction": model})
        image = stack.stack(site, ["preVV", "slope"], replace(settled, model=model))
        values = pixels(image, site.grid())
        assert -25 < np.nanmedian(values["preVV"]) < 0, model
        found[model] = values["preVV"]
    steep = values["slope"] > 1
    for model in ("volume", "surface"):
        # sigma0 becomes gamma0 as well, so level ground changes by the incidence angle's cosine.
        change = np.abs(found[model] - found["none"])[steep]
        assert np.nanmax(change) > 0.1 and np.nanmedian(change) < 6, model


def test_speckle_is_filtered_over_time(here: Place) -> None:
    settled = here.survey().settled
    smooth = here.site.model_copy(update={"speckle_filter": 5})
    rough = pixels(stack.stack(here.site, ["preVV"], settled), here.site.grid())["preVV"]
    filtered = pixels(stack.stack(smooth, ["preVV"], settled), here.site.grid())["preVV"]
    assert np.nanstd(filtered) < np.nanstd(rough)
    assert abs(np.nanmean(filtered) - np.nanmean(rough)) < 1.5


# Optical ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["cloud_score", "scl"])
def test_both_cloud_masks_leave_ground(here: Place, mask: Any) -> None:
    update = {"cloud_mask": mask, "bands": ("dNDVI",), "sources": {"s1": "none"}}
    site = here.site.model_copy(update=update)
    settled = survey(site).settled
    assert bool(settled.cloud_score) is (mask == "cloud_score")
    seen = pixels(sentinel2.observations(site, site.pre, settled), site.grid())
    count = len(here.survey().pictures["s2", "pre"])
    (clear,) = seen.values()
    assert within(clear, 0, count) and np.nanmax(clear) >= 1
    assert within(pixels(sentinel2.dndvi(site, settled), site.grid())["dNDVI"], -2, 2)


def test_requests_are_taken_as_exports_send_them(here: Place) -> None:
    for product in products(here.site, here.survey()):
        values = pixels(product.filled, product.grid, 8)
        assert tuple(values) == product.bands


# Land cover -------------------------------------------------------------------------------------


def test_land_cover_was_judged(here: Place) -> None:
    found = here.survey()
    facts = found.landcover
    assert facts is not None
    for way in ("grouped", "random"):
        judged = facts["accuracy"][way]
        assert "overall" not in judged or 0 <= judged["overall"] <= 1
    assert facts["points"]["used"] > 8


# Factors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_there(here: Place, name: str) -> None:
    for key in FACTOR_SOURCES[name]:
        assert key == "rivers" or has(source(here.site, key)), key
    image = factors.factors(here.site, [name], here.survey().settled)
    values = pixels(image, factor_grid(here.site), 8)
    for band, array in values.items():
        assert np.isfinite(array).any(), band
        if BANDS[band].categorical:
            assert np.array_equal(array[np.isfinite(array)], np.round(array[np.isfinite(array)]))
    if name == "precipitation":
        assert within(values[name], 1, 12_000)  # mm in a year
    if name == "LST":
        assert within(values[name], -60, 70)  # degrees Celsius


# Exports ----------------------------------------------------------------------------------------


def test_a_tiny_export_by_pixels_and_the_lazy_route_agree(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveys = []

    def once(site: Site, *given: Any, **more: Any) -> Survey:
        known = place.found if site == place.site else []
        surveys.append(known[0] if known else survey(site, *given, **more))
        return surveys[-1]

    monkeypatch.setattr(step, "survey", once)
    workspace = place.workspace(tmp_path)
    name = place.site.name
    (item,) = plan_export(workspace, 0)
    told = step.run(item, workspace, lambda share, words: None)
    assert int(told["requests"]) >= 3
    facts = json.loads(workspace.item(name).read_text())
    assert facts["properties"]["thawslump:backend"] == "earthengine"
    for path in workspace.root.rglob("*"):
        # No part of a key or a token is left anywhere.
        assert path.is_dir() or not SECRET.search(path.read_bytes()), path
    site = workspace.site(name)
    with connect(place.config()):
        (found,) = surveys
        opened = {
            "stack": gee.open_stack(site, chunks=64, survey=found, root=workspace.root),
            "factors": gee.open_factors(site, chunks=64, survey=found, root=workspace.root),
        }
        for product, lazy in opened.items():
            file = read(workspace.tiles(name) / f"{product}.tif")
            assert file.names == tuple(lazy.data_vars)
            for band, array in zip(file.names, file.array, strict=True):
                np.testing.assert_allclose(lazy[band].values, array, rtol=1e-6, err_msg=band)


def test_a_tiny_export_by_a_batch_task(place: Place, tmp_path: Path) -> None:
    if not place.drive:
        pytest.skip(
            "no batch task was started on the live Earth Engine: set THAWSLUMP_EE_DRIVE_FOLDER to "
            "a folder of your Drive"
        )
    name = place.site.name
    workspace = place.workspace(
        tmp_path, ("slope", "dNDVI"), export={"method": "drive", "destination": place.drive}
    )
    batch.submit(workspace, name)
    end = time.monotonic() + (1800 if place.live else 60)
    try:
        while True:
            rows = batch.status(workspace, [name])
            if all(row["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") for row in rows):
                break
            assert time.monotonic() < end, f"the tasks do not end: {rows}"
            time.sleep(20 if place.live else 0.1)
    finally:
        if time.monotonic() >= end:
            batch.cancel(workspace, name)
    assert {row["state"] for row in rows} == {"SUCCEEDED"}, rows
    if place.live:
        assert all(row["eecu_seconds"] is not None for row in rows)
    if place.left is not None:
        found = batch.collect(workspace, name, place.left, lambda share, words: None)
        assert found["files"] == 3 and workspace.item(name).exists()
