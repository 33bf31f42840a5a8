"""The lazy route through xee gives what the exports give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gee_world import GIVEN, World, a_site, centres, make_world
from test_gee_scripts import pixels

import gee
from gee.config import BackendConfig
from gee.grids import factor_grid
from gee.scripts import factors, stack
from gee.session import connect

# xee 0.1.2 joins transforms with *, which affine 3.1 announces to drop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul instead of:PendingDeprecationWarning:xee.ext"
)


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("lazy") / "catalog")
    with connect(BackendConfig(), made.folder):
        yield made


@pytest.mark.parametrize("chunks", [None, 32])
def test_the_stack_is_that_of_the_export(earth: World, chunks: Any) -> None:
    site = a_site()
    lazy = gee.open_stack(site, chunks=chunks)
    assert tuple(lazy.data_vars) == GIVEN
    assert lazy.attrs["crs"] == "EPSG:32633"
    expected = pixels(stack.stack(site, GIVEN), site.grid())
    x, y = centres(site.grid())
    np.testing.assert_allclose(lazy["x"], x[0])
    np.testing.assert_allclose(lazy["y"], y[:, 0])
    for name, array in expected.items():
        assert lazy[name].dims == ("y", "x") and lazy[name].dtype == np.float32
        np.testing.assert_allclose(lazy[name].values, array, rtol=1e-6, equal_nan=True)


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
