"""Maps of a site that lie there in tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gee_world import a_site, band, centres, part_of, world
from odc.geo.geobox import GeoBox
from test_gee_scripts import pixels

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.scripts.place import mapped
from gee.session import connect


def canopy(grid: GeoBox) -> np.ndarray:
    x, y = centres(grid)
    return (5 + (x - x.mean()) / 500 + np.sin(y / 300)).astype("float32")


def test_a_smooth_map_in_tiles_has_no_gap_between_them(tmp_path: Path) -> None:
    """Two tiles meet in the middle of the site; bilinear reading of each ends before its edge."""
    whole = world(30)
    site = a_site(sources={"canopy": "users/a/canopy/*"})
    middle = site.grid().transform.c + 300
    cut = round((middle - whole.transform.c) / 30)
    catalog = Catalog(tmp_path, writable=True)
    catalog.put_collection("users/a/canopy")
    values = canopy(whole)
    for name, first, last in (("west", 0, cut), ("east", cut, whole.shape[1])):
        part = part_of(whole, whole.shape[0], last - first, first)
        catalog.put_image(f"users/a/canopy/{name}", [band("h", values[:, first:last], part)])
    catalog.put_image("users/a/whole", [band("h", values, whole)])
    with connect(BackendConfig(), tmp_path):
        found = pixels(mapped(site, "canopy", smooth=True), site.grid())["canopy"]
        one = a_site(sources={"canopy": "users/a/whole"})
        smooth = pixels(mapped(one, "canopy", smooth=True), site.grid())["canopy"]
    assert np.isfinite(found).all()
    x, _ = centres(site.grid())
    away = np.abs(x - middle) > 15
    np.testing.assert_allclose(found[away], smooth[away], rtol=1e-5)
    # Within half a pixel of 30 m of the seam: the nearest value, off by a pixel's rise at most.
    assert np.abs(found - smooth).max() < np.abs(np.diff(values, axis=1)).max()
