"""The lazy route through xee gives what the exports give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from gee_world import GIVEN, World, a_site, band, centres, make_world, world
from test_gee_export import a_workspace, exported
from test_gee_scripts import pixels

import gee
from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.exports.purpose import functions
from gee.exports.survey import survey
from gee.grids import factor_grid
from gee.scripts import factors, stack
from gee.session import connect
from thawslump.raster import read

# xee 0.1.2 joins transforms with *, which affine 3.1 announces to drop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul instead of:PendingDeprecationWarning:xee.ext"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("lazy") / "catalog")


@pytest.fixture
def earth(made: World) -> Iterator[World]:
    with connect(BackendConfig(), made.folder):
        yield made


@pytest.mark.parametrize("chunks", [None, 32])
def test_the_stack_is_that_of_the_export(earth: World, chunks: Any) -> None:
    site = a_site()
    names = ("dVH", "slope", "dNDVI")
    lazy = gee.open_stack(site, names, chunks=chunks)
    assert tuple(lazy.data_vars) == names
    assert lazy.attrs["crs"] == "EPSG:32633"
    expected = pixels(stack.stack(site, names), site.grid())
    x, y = centres(site.grid())
    np.testing.assert_allclose(lazy["x"], x[0])
    np.testing.assert_allclose(lazy["y"], y[:, 0])
    for name, array in expected.items():
        assert lazy[name].dims == ("y", "x") and lazy[name].dtype == np.float32
        np.testing.assert_allclose(lazy[name].values, array, rtol=1e-6, equal_nan=True)


def test_all_bands_are_those_of_the_files_classes_included(made: World, tmp_path: Path) -> None:
    """Against stack.tif and factors.tif, as an export of the same site writes them."""
    maps = {"climate": "users/a/climate", "canopy": "users/a/canopy"}
    catalog = Catalog(made.folder, writable=True)
    dice = np.random.default_rng(3)
    grid = world(100)
    for name, values in (
        ("climate", dice.integers(1, 31, grid.shape).astype("uint8")),
        ("canopy", dice.uniform(0, 20, grid.shape).astype("float32")),
    ):
        catalog.put_image(maps[name], [band("b1", values, grid, pyramiding="SAMPLE")])
    site = a_site(sources=maps, factors=("elevation", "TPI", "NDVI"))
    workspace = a_workspace(tmp_path, made.folder, site)
    exported(workspace)
    with connect(BackendConfig(), made.folder):
        found = survey(site)
        lazy = gee.open_stack(site, chunks=64, survey=found)
        factors_ = gee.open_factors(site, chunks=64, survey=found)
        assert (lazy["KG_climate"].attrs["categorical"], lazy["dVV"].attrs["units"]) == (1, "dB")
        for opened, name in ((lazy, "stack"), (factors_, "factors")):
            file = read(workspace.tiles("place") / f"{name}.tif")
            assert tuple(opened.data_vars) == file.names
            for one, array in zip(file.names, file.array, strict=True):
                np.testing.assert_array_equal(opened[one].values, array, err_msg=one)
    assert set(lazy.data_vars) == {*GIVEN, "KG_climate", "Popatpv_treeheight"}


def test_chunks_are_requests_and_ask_for_nothing_else(
    earth: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = a_site()
    lazy = gee.open_stack(site, chunks=32)
    asked: list[dict[str, Any]] = []
    compute = ee.data.computePixels

    def spy(request: dict[str, Any]) -> Any:
        asked.append(request)
        return compute(request)

    monkeypatch.setattr(ee.data, "computePixels", spy)
    monkeypatch.setattr(ee.data, "computeValue", lambda value: pytest.fail("asked a value"))
    assert lazy["dVV"].chunks == ((32, 18), (32, 30))
    lazy["dVV"].compute()
    assert len(asked) == 4
    # Nothing is summed up over the site by a chunk: that was settled before.
    for request in asked:
        assert "Image.reduceRegion" not in functions(request["expression"])


def test_one_band_is_read_without_the_others(earth: World) -> None:
    lazy = gee.open_stack(a_site(), ["dNDVI"], chunks=32)
    assert tuple(lazy.data_vars) == ("dNDVI",)
    part = lazy["dNDVI"].isel(x=slice(3, 9), y=slice(2, 4))
    expected = pixels(stack.stack(a_site(), ["dNDVI"]), a_site().grid())["dNDVI"][2:4, 3:9]
    np.testing.assert_allclose(part.values, expected, rtol=1e-6)


def test_factors_come_at_thirty_metres(earth: World) -> None:
    site = a_site()
    lazy = gee.open_factors(site, ["TPI", "slope"])
    expected = pixels(factors.factors(site, ["TPI", "slope"]), factor_grid(site))
    assert tuple(lazy.data_vars) == ("TPI", "slope")
    for name, array in expected.items():
        np.testing.assert_allclose(lazy[name].values, array, rtol=1e-5, atol=1e-6)
