"""Local incidence angle and slope correction against computations that share no formula with them.

    python benchmarks/radar_geometry.py [--latitude 72] [--crs EPSG:3413]

1. Local incidence angle: the formula alone, on random ground; and the whole chain (tiles of heights
   in degrees, slopes, direction to the satellite from the ``angle`` band, its mean), against the
   angle between two vectors on the ellipsoid: the normal of the analytic surface, and the line to a
   satellite on a circular orbit over the turning Earth, found where its velocity over ground is at
   a right angle to it. One place at `--latitude`, 24 km wide, both passes.
2. Each model of the correction on a cone that is seen as that model tells it: largest mean over any
   10 degrees of aspect, dB from level ground, both passes.
3. Both models on facets, area x cos^n(local incidence): what is left of the relief over all
   aspects at 38 degrees, half of the range in dB, by n and slope.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import ee
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy import optimize

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

import radar_world as vectors  # noqa: E402
from gee_world import POST, PRE, centres  # noqa: E402
from slope_correction import PASSES, pixels  # noqa: E402

from gee.config import BackendConfig  # noqa: E402
from gee.emulator.catalog import BandData, Catalog  # noqa: E402
from gee.scripts import radar_geometry, sentinel1, slope_correction  # noqa: E402
from gee.scripts.settled import Orbit, Settled  # noqa: E402
from gee.session import connect  # noqa: E402
from thawslump.site import Site  # noqa: E402

Array = NDArray[Any]
DEM = "COPERNICUS/DEM/GLO30"
ORBIT = 7_070_000.0  # metres from the Earth's centre
REVOLUTION = 86400 / (14 + 7 / 12)
TILT = math.radians(98.18)


class Track:
    """A circular orbit over the turning Earth, in Earth-fixed coordinates."""

    def __init__(self, node: float) -> None:
        self.node = node

    def at(self, seconds: Array) -> Array:
        u, spin = 2 * np.pi * seconds / REVOLUTION, 2 * np.pi * seconds / 86400 - self.node
        x, y = np.cos(u), np.sin(u) * math.cos(TILT)
        return ORBIT * np.stack(
            [
                x * np.cos(spin) + y * np.sin(spin),
                y * np.cos(spin) - x * np.sin(spin),
                np.sin(u) * math.sin(TILT),
            ]
        )

    def velocity(self, seconds: Array) -> Array:
        return (self.at(seconds + 0.05) - self.at(seconds - 0.05)) / 0.1

    def sights(self, points: Array, seconds: float) -> tuple[Array, Array]:
        """Unit vectors from points (3, n) to the satellite as it passes them, and when."""
        when = np.full(points.shape[1], seconds)
        for _ in range(6):
            line, speed = self.at(when) - points, self.velocity(when)
            when = when - (line * speed).sum(0) / (speed * speed).sum(0)
        line = self.at(when) - points
        return line / np.linalg.norm(line, axis=0), when


def passing(point: Array, up: Array, ascending: bool) -> tuple[Track, float]:
    """Return a track that sees a point 38 degrees off its normal, to the right, and when."""
    middle = math.asin(point[2] / np.linalg.norm(point)) / TILT
    seconds = middle / (2 * np.pi) * REVOLUTION
    start = seconds if ascending else REVOLUTION / 2 - seconds

    def seen(node: float) -> tuple[float, float, bool]:
        track = Track(node)
        times = start + np.linspace(-900, 900, 3601)
        line = track.at(times) - point[:, None]
        squint = (line * track.velocity(times)).sum(0)
        turns = np.flatnonzero(np.diff(np.sign(squint)) != 0)
        if not len(turns):
            return 90.0, 0.0, False
        nearest = turns[np.argmin(np.linalg.norm(line[:, turns], axis=0))]
        to, when = track.sights(point[:, None], float(times[nearest]))
        flight = track.velocity(when)[:, 0]
        right = float(np.dot(np.cross(flight, -to[:, 0]), up)) < 0
        rising = (flight[2] > 0) == ascending
        return math.degrees(math.acos(float(to[:, 0] @ up))), float(when[0]), right and rising

    nodes = np.radians(np.arange(0, 360, 0.5))
    found = [(node, seen(node)) for node in nodes]
    good = [(abs(angle - 38), node) for node, (angle, _, fits) in found if fits]
    best = min(good)[1]
    step = math.radians(0.5)
    best = optimize.minimize_scalar(
        lambda node: abs(seen(node)[0] - 38), bounds=(best - step, best + step), method="bounded"
    ).x
    return Track(float(best)), seen(float(best))[1]


def hills(u: Array, v: Array) -> Array:
    """Heights above the ellipsoid, slopes up to 30 degrees."""
    return 900 + 0.02 * u + 320 * np.sin(u / 800) * np.cos(v / 900) + 40 * np.sin((u + v) / 260)


def chain(latitude: float, crs: str | None) -> dict[str, Any]:
    """Whole chain against vectors on the ellipsoid."""
    longitude, report = 127.0, {}
    site = Site(
        name="hills", role="area", crs=crs, resolution=30,
        bounds=(
            longitude - 0.108 / math.cos(math.radians(latitude)), latitude - 0.108,
            longitude + 0.108 / math.cos(math.radians(latitude)), latitude + 0.108,
        ),
        sources={"s1": "users/r/images"}, pre=PRE, post=POST, slope_correction="volume",
    )  # fmt: skip
    grid = site.grid()
    assert grid.crs is not None
    here = grid.crs.to_wkt()
    to_grid = Transformer.from_crs("EPSG:4326", here, always_xy=True)
    to_space = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    to_lonlat = Transformer.from_crs(here, "EPSG:4326", always_xy=True)
    x0, y0 = to_grid.transform(longitude, latitude)

    def space(x: Array, y: Array, high: Array) -> Array:
        lon, lat = to_lonlat.transform(x, y)
        return np.stack(to_space.transform(lon, lat, high))

    def ellipsoid_normal(x: Array, y: Array) -> Array:
        lift = space(x, y, np.full(x.shape, 1000.0)) - space(x, y, np.zeros(x.shape))
        return np.asarray(lift / np.linalg.norm(lift, axis=0))

    x, y = (part.ravel() for part in centres(grid))
    ground = space(x, y, hills(x - x0, y - y0))

    def tangent(dx: float, dy: float) -> Array:
        ahead, back = (
            space(x + way * dx, y + way * dy, hills(x + way * dx - x0, y + way * dy - y0))
            for way in (1, -1)
        )
        return np.asarray(ahead - back)

    normals = np.cross(tangent(0.5, 0), tangent(0, 0.5), axis=0)
    normals /= np.linalg.norm(normals, axis=0)
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder), writable=True)
        _put_tiles(catalog, longitude, latitude, lambda a, b: hills(a - x0, b - y0), to_grid)
        catalog.put_collection("users/r/images")
        truth = {}
        for number, direction in enumerate(PASSES):
            centre = space(np.array([x0]), np.array([y0]), np.array([0.0]))[:, 0]
            up = ellipsoid_normal(np.array([x0]), np.array([y0]))[:, 0]
            track, when = passing(centre, up, direction == "ASCENDING")
            coarse = GeoBox((16, 16), Affine(5000, 0, x0 - 40000, 0, -5000, y0 + 40000), grid.crs)
            cx, cy = (part.ravel() for part in centres(coarse))
            sights, _ = track.sights(space(cx, cy, np.zeros(cx.shape)), when)
            angle = np.degrees(np.arccos((sights * ellipsoid_normal(cx, cy)).sum(0)))
            fine = GeoBox((40, 40), Affine(1000, 0, x0 - 20000, 0, -1000, y0 + 20000), grid.crs)
            bands = [
                BandData(name, np.full(fine.shape, -10, "float32"), str(grid.crs),
                         tuple(fine.transform)[:6])
                for name in ("VV", "VH")
            ]  # fmt: skip
            angles = angle.reshape(coarse.shape).astype("float32")
            bands.append(BandData("angle", angles, str(grid.crs), tuple(coarse.transform)[:6]))
            properties = {
                "instrumentMode": "IW", "transmitterReceiverPolarisation": ["VV", "VH"],
                "orbitProperties_pass": direction, "relativeOrbitNumber_start": number + 1,
            }  # fmt: skip
            for day in ("2020-07-01", "2021-07-01"):
                ms = int(np.datetime64(f"{day}T10:00:00", "ms").astype(int))
                catalog.put_image(
                    f"users/r/images/{direction}_{day}", bands, properties, start_ms=ms
                )
            to, _ = track.sights(ground, when)
            cross = np.linalg.norm(np.cross(to, normals, axis=0), axis=0)
            truth[direction] = np.degrees(np.arctan2(cross, (to * normals).sum(0)))
        with connect(BackendConfig(), Path(folder)):
            for number, direction in enumerate(PASSES):
                mine = site.model_copy(update={"orbit_pass": direction})
                orbit = Orbit(direction, number + 1)
                facts = sentinel1.survey_facts(mine, orbit, with_map=False).getInfo()
                image = sentinel1.geometry(mine, Settled(orbits=(orbit,), **facts))
                found = pixels(image, grid)["liaDeg"].ravel()
                away = np.abs(found - truth[direction])
                report[direction] = {
                    "look": round(facts["look"], 2),
                    "look of the orbit alone": round(
                        radar_geometry.orbit_look(mine, direction, facts["incidence"]), 2
                    ),
                    "incidence": round(facts["incidence"], 2),
                    "median": round(float(np.median(away)), 3),
                    "99 %": round(float(np.quantile(away, 0.99)), 3),
                    "largest": round(float(away.max()), 3),
                    "angles from": round(float(truth[direction].min()), 1),
                    "to": round(float(truth[direction].max()), 1),
                    "pixels": int(away.size),
                    "masked": int(np.isnan(found).sum()),
                }
    return report


def _put_tiles(
    catalog: Catalog, longitude: float, latitude: float, of: Any, to_grid: Transformer
) -> None:
    """Four tiles that meet in the middle, pixels as wide as those of the global DEM there."""
    seconds = next(
        wide for limit, wide in ((50, 1), (60, 1.5), (70, 2), (80, 3), (85, 5), (90, 10))
        if abs(latitude) < limit
    )  # fmt: skip
    catalog.put_collection(DEM)
    half = 0.2 / math.cos(math.radians(latitude))
    cols, rows = round(half * 3600 / seconds), 720
    for number in range(4):
        right, down = number % 2, number // 2
        west = longitude + (right - 1) * cols * seconds / 3600
        north = latitude + (1 - down) * rows / 3600
        lons = west + (np.arange(cols) + 0.5) * seconds / 3600
        lats = north - (np.arange(rows) + 0.5) / 3600
        x, y = to_grid.transform(*np.meshgrid(lons, lats))
        heights = np.asarray(of(np.asarray(x), np.asarray(y)), "float32")
        transform = (seconds / 3600, 0.0, west, 0.0, -1 / 3600, north)
        catalog.put_image(f"{DEM}/{number}", [BandData("DEM", heights, "EPSG:4326", transform)])


def on_ground(theta: Array, look: float, east: Array, north: Array) -> dict[str, Array]:
    """Compute the scripts' geometry and both gains of given ground, whatever it lies on."""
    grid = GeoBox(theta.shape, Affine(10, 0, 500_000, 0, -10, 7_000_000), "EPSG:32633")
    values = {"theta": theta, "north": north, "east": east}
    bands = [
        BandData(name, np.asarray(part, "float64"), "EPSG:32633", tuple(grid.transform)[:6])
        for name, part in values.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        Catalog(Path(folder), writable=True).put_image("users/r/ground", bands)
        with connect(BackendConfig(), Path(folder)):
            image = ee.Image("users/r/ground")
            angle = image.select("theta")
            ground = radar_geometry.terrain_geometry(angle, image, look)
            gains = [
                slope_correction.gain(angle, ground, model).rename(model)
                for model in ("volume", "surface")
            ]
            return pixels(ee.Image.cat([ground, *gains]), grid)


def formula() -> dict[str, float]:
    """Departure of the formula alone, degrees (answers are float32)."""
    dice = np.random.default_rng(1)
    theta = dice.uniform(math.radians(29), math.radians(46), (256, 256))
    east, north = dice.uniform(-1.5, 1.5, (2, 256, 256))
    found = on_ground(theta, 1.3, east, north)["lia"]
    away = np.abs(found - vectors.local_incidence(theta, 1.3, east, north))
    return {"largest": float(f"{away.max():.1e}"), "median": float(f"{np.median(away):.1e}")}


def flattened(slopes: tuple[float, ...] = (10.0, 20.0, 30.0)) -> list[dict[str, Any]]:
    """Each model on its own cone, through heights, slopes, angle band and median."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in ("volume", "surface"):
            for slope in slopes:

                def echo(
                    theta: Array, look: float, east: Array, north: Array, of: str = model
                ) -> Array:
                    steep, aspect = np.arctan(np.hypot(east, north)), np.arctan2(east, north)
                    return vectors.model_echo(of, theta, look, steep, aspect)

                vectors.put_mountain(Path(folder), f"{model}{slope:.0f}", slope, echo)
        with connect(BackendConfig(), Path(folder)):
            for model in ("volume", "surface"):
                for slope in slopes:
                    for direction in PASSES:
                        rows.append(_flat(model, slope, direction))
    return rows


def _flat(model: Any, slope: float, direction: str) -> dict[str, Any]:
    found = {}
    for used in ("none", model):
        site = vectors.mountain_site(f"{model}{slope:.0f}", direction, slope_correction=used)
        grid = site.grid()
        db = pixels(sentinel1.composite(site, PRE), grid)["VH"]
        x, y = centres(grid)
        _, east, north = vectors.cone(x, y, slope)
        away = np.hypot(x - vectors.TOP[0], y - vectors.TOP[1])
        sector = np.floor(np.degrees(np.arctan2(east, north)) % 360 / 10)
        whole = (away > 300) & (away < 750)
        means = [float(db[whole & (sector == number)].mean()) for number in range(36)]
        found[used] = max(means) - min(means) if used == "none" else max(map(abs, means))
    return {
        "model": model, "slope": slope, "pass": direction,
        "range_before_db": round(found["none"], 2), "largest_after_db": round(found[model], 4),
    }  # fmt: skip


def facets(slopes: tuple[float, ...] = (5.0, 10.0, 20.0, 30.0)) -> list[dict[str, Any]]:
    """Half of the range over all aspects, dB, of facet area x cos^n, before and after."""
    aspects = np.radians(np.arange(0, 360, 2.0))
    theta = np.full((1, aspects.size), math.radians(38))
    rows = []
    for slope in slopes:
        steep = math.tan(math.radians(slope))
        east, north = steep * np.sin(aspects)[None], steep * np.cos(aspects)[None]
        gains = on_ground(theta, 0.0, east, north)
        for power in (0.0, 0.5, 1.0, 1.5, 2.0):
            echo = vectors.facet_echo(theta, 0.0, east, north, power)
            left = {
                name: 10 * np.log10(echo * gain)
                for name, gain in (
                    ("none", 1.0), ("volume", gains["volume"]), ("surface", gains["surface"]),
                )
            }  # fmt: skip
            rows.append(
                {"slope": slope, "n": power}
                | {name: round(float(np.ptp(db)) / 2, 2) for name, db in left.items()}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latitude", type=float, default=72.0)
    parser.add_argument("--crs", help="of the site; the UTM zone where not given")
    options = parser.parse_args()
    table = facets()
    report = {
        "local incidence, formula alone, degrees": formula(),
        "local incidence, whole chain, degrees": chain(options.latitude, options.crs),
        "own forward model": flattened(),
    }
    print(json.dumps(report, indent=1))
    print("\nfacet area x cos^n(local incidence), half of the range over all aspects, dB")
    print("slope   n   none  volume  surface")
    for row in table:
        print(
            f"{row['slope']:5.0f} {row['n']:4.1f} {row['none']:6.2f} {row['volume']:7.2f} "
            f"{row['surface']:8.2f}"
        )


if __name__ == "__main__":
    main()
