"""Radar geometry by vectors, and made-up mountains seen by Sentinel-1 with known answers.

Nothing here shares a formula with `gee.scripts`: the line of sight and the normal of the ground are
vectors, the ground area of a radar cell is that of a tilted facet between two of its edges, shadow
and layover are found by walking along rays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from gee_world import CRS, LOOK, NORTH, WEST, a_site, band, centres, incidence, world
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from gee.emulator.catalog import Catalog
from thawslump.grid import lonlat_bounds
from thawslump.site import Site

Array = NDArray[Any]
PASSES = {"ASCENDING": 44, "DESCENDING": 95}
DATES = {"pre": "2020-06-05T10:00:00", "post": "2021-06-05T10:00:00"}
TOP = (WEST + 1200.0, NORTH - 1200.0)
"""Where the cone of `cone` has its top: the middle of the world."""


def sight(theta: Array, look: Array | float) -> Array:
    """Unit vectors (east, north, up) from the ground to the satellite; radians."""
    return np.stack(
        np.broadcast_arrays(
            np.sin(theta) * np.sin(look), np.sin(theta) * np.cos(look), np.cos(theta)
        )
    )


def normal(east: Array, north: Array) -> Array:
    """Unit normals of ground with the downhill gradient (east, north)."""
    up = np.ones(np.broadcast(east, north).shape)
    return np.stack([east * up, north * up, up]) / np.sqrt(east**2 + north**2 + 1)


def local_incidence(theta: Array, look: Array | float, east: Array, north: Array) -> Array:
    """Angle between line of sight and normal, degrees, by the arc tangent (exact near 0, too)."""
    to, up = sight(theta, look), normal(east, north)
    to, up = np.broadcast_arrays(to, up)
    cross = np.linalg.norm(np.cross(to, up, axis=0), axis=0)
    return np.degrees(np.arctan2(cross, (to * up).sum(0)))


def facet_echo(theta: Array, look: float, east: Array, north: Array, power: float) -> Array:
    """sigma0 (per area of level ground) of facet area x cos^power(local incidence).

    A cell is one unit of slant range by one along the track; the facet that fills it is larger the
    closer its normal is to the slant plane's own direction.
    """
    to, up = sight(theta, look), normal(east, north)
    track = np.array([math.cos(look), -math.sin(look), 0.0])
    upright = np.cross(np.broadcast_to(track[:, None], to.reshape(3, -1).shape), to.reshape(3, -1),
                       axis=0).reshape(to.shape)  # fmt: skip
    upright = upright * np.sign(upright[2])
    to, up, upright = np.broadcast_arrays(to, up, upright)
    area = 1 / (up * upright).sum(0)
    level = 1 / upright[2]
    return area / level * np.clip((to * up).sum(0), 0, None) ** power


def model_echo(model: str, theta: Array, look: float, slope: Array, aspect: Array) -> Array:
    """sigma0 of ground with gamma0 1 when level, as the models of the paper tell it; radians."""
    turned = look - aspect
    tilt = np.arctan(np.tan(slope) * np.cos(turned))
    along = np.arctan(np.tan(slope) * np.sin(turned))
    grazing = np.pi / 2 - theta
    if model == "volume":
        return np.cos(theta) * np.tan(grazing + tilt) / np.tan(grazing)
    return np.cos(theta) * np.cos(grazing) / np.cos(along) / np.cos(grazing + tilt)


def mountains(size: int, fine: float) -> Array:
    """Return a made-up massif: cones with rounded feet, flanks from 20 to 65 degrees."""
    y, x = np.mgrid[:size, :size] * fine
    dice = np.random.default_rng(3)
    heights = np.zeros((size, size))
    for _ in range(14):
        at = dice.uniform(0.2, 0.8, 2) * size * fine
        wide, high = dice.uniform(250, 700), dice.uniform(500, 1500)
        heights = np.maximum(heights, high * np.exp(-np.hypot(x - at[0], y - at[1]) / wide))
    return np.asarray(ndimage.gaussian_filter(heights, 45 / fine))


def rays(heights: Array, fine: float, theta: float, look: float) -> dict[str, Array]:
    """Follow a beam from every third pixel of a height grid to the satellite, and back.

    Parameters
    ----------
    heights : array
        Every `fine` metres.
    theta, look : float
        Incidence angle and direction to the satellite, radians; the satellite is so far away that
        rays are parallel.
    """
    at = np.mgrid[1 : heights.shape[0] : 3, 1 : heights.shape[1] : 3].astype(float)

    def along(metres: float) -> Array:
        """Heights that far over ground towards the satellite."""
        step = np.array([-math.cos(look), math.sin(look)]) * metres / fine
        return np.asarray(
            ndimage.map_coordinates(heights, at + step[:, None, None], order=1, mode="nearest")
        )

    here = along(0.0)
    towards = np.arctan((along(-fine) - along(fine)) / (2 * fine))
    hidden, folded = np.zeros(here.shape, bool), np.zeros(here.shape, bool)
    farthest = (heights.max() - heights.min()) * max(math.tan(theta), 1 / math.tan(theta))
    for metres in np.arange(fine, farthest, fine):
        near, far = along(metres), along(-metres)
        hidden |= near - metres / math.tan(theta) > here
        # Ground that is nearer on the map but not on the way of the wave falls together with it.
        folded |= (here - near > metres * math.tan(theta)) | (far - here > metres * math.tan(theta))
    return {
        "layover": towards >= theta,
        "shadow": towards <= theta - math.pi / 2,
        "hidden": hidden,
        "folded": folded,
    }


def cone(x: Array, y: Array, slope: float) -> tuple[Array, Array, Array]:
    """Height of a cone, and its downhill gradient (east, north)."""
    u, v = x - TOP[0], y - TOP[1]
    far = np.maximum(np.hypot(u, v), 1e-9)
    steep = math.tan(math.radians(slope))
    return 2000 - steep * far, steep * u / far, steep * v / far


def put_mountain(
    folder: Path, name: str, slope: float, echo: Callable[[Array, float, Array, Array], Array]
) -> None:
    """Write a cone as ``users/m/<name>_dem`` and its images, both passes, as ``users/m/<name>``.

    Parameters
    ----------
    echo : callable
        Of theta (radians), look (radians), downhill gradient east and north: sigma0 of ground
        whose gamma0 is 1 when level.
    """
    catalog = Catalog(folder, writable=True)
    dem, fine, coarse = world(30, margin=90), world(10), world(400, margin=2000)
    heights = cone(*centres(dem), slope)[0]
    catalog.put_image(f"users/m/{name}_dem", [band("h", heights.astype("float32"), dem)])
    catalog.put_collection(f"users/m/{name}")
    x, y = centres(fine)
    _, east, north = cone(x, y, slope)
    for direction, relative in PASSES.items():
        theta = np.radians(incidence(x, y, direction))
        power = echo(theta, math.radians(LOOK[direction]), east, north)
        bands = [
            band(each, (10 * np.log10(np.maximum(power, 1e-6))).astype("float32"), fine)
            for each in ("VV", "VH")
        ]
        angle = incidence(*centres(coarse), direction).astype("float32")
        bands.append(band("angle", angle, coarse))
        properties = {
            "instrumentMode": "IW",
            "transmitterReceiverPolarisation": ["VV", "VH"],
            "orbitProperties_pass": direction,
            "relativeOrbitNumber_start": relative,
        }
        for side, date in DATES.items():
            ms = int(np.datetime64(date, "ms").astype(int))
            catalog.put_image(f"users/m/{name}/{direction}_{side}", bands, properties, start_ms=ms)


def mountain_site(name: str, direction: str, **changes: Any) -> Site:
    """A site over the cone, 10 m pixels; its DEM is the cone's, at 30 m."""
    grid = GeoBox((160, 160), Affine(10, 0, WEST + 400, 0, -10, NORTH - 400), CRS)
    values: dict[str, Any] = {
        "bounds": lonlat_bounds(grid),
        "orbit_pass": direction,
        "sources": {"s1": f"users/m/{name}", "dem": f"users/m/{name}_dem"},
    }
    return a_site(**(values | changes))
