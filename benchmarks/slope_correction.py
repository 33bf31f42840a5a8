"""What the slope correction leaves of the relief, and how well layover and shadow are found.

    python benchmarks/slope_correction.py [--seed 1] [--rows 512] [--cols 768]

1. On the made-up valley, whose radar equation is not the correction's own: backscatter over
   vegetation on slopes, by the direction they face relative to the radar, with no correction and
   with the volume and the surface model; amplitude of the wave that fits it best (dB). What grows
   on a slope depends on the side it faces, with or without a radar, so the same is shown for the
   departure from the valley's own gamma0 of level ground (known, as the valley is made up), and
   for the difference between the two passes, in which the plants cancel.
2. On a made-up massif with steep flanks: layover and shadow of the slope itself, and cast shadow,
   against rays traced through the same surface at a third of the pixel size; the satellite in the
   east, and where it stands on both passes at 72 degrees north. Layover that comes from ground in
   front or behind (passive) is only reported: no mask of the script finds it.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import radar_world as vectors

from gee.config import BackendConfig
from gee.emulator.catalog import BandData, Catalog
from gee.grids import crs_code, crs_transform
from gee.scripts import radar_geometry, sentinel1, terrain
from gee.scripts.settled import Orbit, Settled
from gee.session import connect
from gee.valley.landscape import make
from gee.valley.radar import backscatter
from gee.valley.scenes import Scenes, radar_passes
from thawslump.demo import prepare
from thawslump.grid import lonlat_bounds
from thawslump.pipeline import run as run_pipeline
from thawslump.site import Site

Array = NDArray[Any]
PASSES = ("ASCENDING", "DESCENDING")
MODELS = ("none", "volume", "surface")


def pixels(image: ee.Image, grid: GeoBox) -> dict[str, Array]:
    """Compute an image on a grid, in requests of 256 x 256; NaN where masked."""
    rows, cols = grid.shape
    found: dict[str, Array] = {}
    for row in range(0, rows, 256):
        for col in range(0, cols, 256):
            part = grid[row : min(row + 256, rows), col : min(col + 256, cols)]
            a = part.transform
            answer = ee.data.computePixels(
                {
                    "expression": image.toFloat().unmask(-99999, False),
                    "fileFormat": "NUMPY_NDARRAY",
                    "grid": {
                        "dimensions": {"width": part.shape[1], "height": part.shape[0]},
                        "affineTransform": {
                            "scaleX": a.a,
                            "shearX": 0,
                            "translateX": a.c,
                            "shearY": 0,
                            "scaleY": a.e,
                            "translateY": a.f,
                        },
                        "crsCode": crs_code(grid),
                    },
                }
            )
            for name in answer.dtype.names:
                whole = found.setdefault(name, np.full(grid.shape, np.nan, np.float32))
                values = np.where(answer[name] == -99999, np.nan, answer[name])
                whole[row : row + part.shape[0], col : col + part.shape[1]] = values
    return found


def amplitude(values: Array, facing: Array) -> float:
    """Return the amplitude of the best wave over directions, each direction counting alike."""
    bins = np.floor(facing / 10).astype(int) % 36
    means = np.array([np.nanmean(values[bins == n]) for n in range(36) if (bins == n).sum() > 30])
    at = np.radians([10 * n + 5 for n in range(36) if (bins == n).sum() > 30])
    design = np.column_stack([np.ones_like(at), np.cos(at), np.sin(at)])
    _, x, y = np.linalg.lstsq(design, means, rcond=None)[0]
    return float(math.hypot(x, y))


def level_truth(seed: int, shape: tuple[int, int], site: Site, ascending: bool) -> Array:
    """Return the valley's own gamma0 of level ground before the change, VH in dB.

    Median over the scenes of the window, of what their ground scatters, without relief, speckle,
    noise or weather.
    """
    land = make(seed, shape)
    scenes = Scenes(land)
    year = land.pre
    volume, surface = backscatter(
        year.shares[:, *land.inner], year.shift[:, *land.inner], land.grain[:, *land.inner]
    )
    assert site.pre is not None
    wet = [
        scenes.snow(each.when)[land.inner]
        for each in radar_passes()
        if each.ascending == ascending and site.pre.start <= each.when.date() < site.pre.end
    ]
    return np.asarray(
        10 * np.log10((volume[1] + surface[1]) * np.median(1 - 0.85 * np.stack(wet), axis=0))
    )


def valley(seed: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Amplitudes over vegetation by pass, polarisation and model."""
    report: dict[str, Any] = {}
    kept: list[tuple[dict[str, dict[str, Array]], Array, Array]] = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder) / "demo", seed=seed, shape=shape)
        run_pipeline(workspace, until="valley")
        pattern = next(site for site in workspace.sites.values() if site.pre is not None)
        inner = Scenes(make(seed, shape)).frame
        grid = GeoBox(inner.shape, Affine(10, 0, inner.left, 0, -10, inner.top), pattern.grid().crs)
        fixed = pattern.model_dump(
            exclude={"name", "role", "bounds", "outlines", "orbit_pass", "slope_correction"}
        )
        with connect(BackendConfig(), workspace.catalog):
            for direction in PASSES:
                sites = {
                    model: Site(
                        name="valley",
                        role="area",
                        bounds=lonlat_bounds(grid),
                        orbit_pass=direction,
                        slope_correction=model,
                        **fixed,
                    )
                    for model in MODELS
                }
                site = sites["none"]
                assert site.pre is not None
                first = ee.Image(sentinel1.collection(site, site.pre).first())
                orbit = Orbit(direction, int(first.get("relativeOrbitNumber_start").getInfo()))
                asked = sentinel1.survey_facts(site, orbit, with_map=False).getInfo()
                known = Settled(orbits=(orbit,), **asked)
                ground = pixels(
                    ee.Image.cat(
                        [
                            terrain.slope(site),
                            terrain.aspect(site),
                            sentinel1.vegetated(site).rename("plants"),
                        ]
                    ),
                    grid,
                )
                images = {
                    model: pixels(sentinel1.composite(each, site.pre, known), grid)
                    for model, each in sites.items()
                }
                truth = level_truth(seed, shape, site, direction == "ASCENDING")
                seen = np.isfinite(images["volume"]["VH"]) & np.isfinite(ground["aspect"])
                chosen = seen & (ground["plants"] == 1) & (ground["slope"] > 8)
                facing = (ground["aspect"] - known.look) % 360
                rows: dict[str, Any] = {
                    name: {
                        model: round(amplitude(found[name][chosen], facing[chosen]), 3)
                        for model, found in images.items()
                    }
                    for name in sentinel1.POLARISATIONS
                }
                # Both as gamma0 on the ellipsoid: sigma0 differs from it by one number, nearly.
                rows["VH minus level truth"] = {
                    model: round(amplitude((found["VH"] - truth)[chosen], facing[chosen]), 3)
                    for model, found in images.items()
                }
                rows["VH of the level truth"] = round(amplitude(truth[chosen], facing[chosen]), 3)
                rows["pixels"] = int(chosen.sum())
                for name in ("VH", "VH minus level truth"):
                    share = rows[name]["volume"] / rows[name]["none"]
                    rows[f"{name}, volume over none"] = round(share, 3)
                report[direction] = rows
                kept.append((images, chosen, ground["aspect"]))
    (ascending, first_chosen, aspect), (descending, second_chosen, _) = kept
    both = first_chosen & second_chosen
    apart = {
        model: round(
            amplitude((ascending[model]["VH"] - descending[model]["VH"])[both], aspect[both]), 3
        )
        for model in MODELS
    }
    report["VH ascending minus descending"] = {
        **apart,
        "volume_over_none": round(apart["volume"] / apart["none"], 3),
    }
    return report


def f1(found: Array, truth: Array) -> float:
    """Return the F1 of a mask."""
    hit = (found & truth).sum()
    return float(2 * hit / (found.sum() + truth.sum()))


def massif(direction: float, theta: float = 38.0, size: int = 240) -> dict[str, Any]:
    """Masks of the scripts, from heights every 30 m, against rays through heights every 10 m."""
    heights = vectors.mountains(3 * size, 10.0)
    grid = GeoBox((size, size), Affine(30, 0, 500_000, 0, -30, 6_700_000), "EPSG:32633")
    truth = vectors.rays(heights, 10.0, math.radians(theta), math.radians(direction))
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder), writable=True)
        coarse = heights[1::3, 1::3].astype(np.float32)
        catalog.put_image(
            "users/a/massif", [BandData("h", coarse, "EPSG:32633", tuple(crs_transform(grid)))]
        )
        inner = grid[20:-20, 20:-20]
        with connect(BackendConfig(), Path(folder)):
            site = Site(
                name="massif",
                role="area",
                bounds=lonlat_bounds(inner),
                resolution=30,
                crs="EPSG:32633",
                sources={"dem": "users/a/massif"},
                pre={"start": "2020-06-01", "end": "2020-09-01"},
                post={"start": "2021-06-01", "end": "2021-09-01"},
            )
            angle, look = ee.Image.constant(math.radians(theta)), math.radians(direction)
            geometry = radar_geometry.terrain_geometry(angle, terrain.gradient(site), look)
            cast = radar_geometry.cast_shadow(site, angle, look)
            found = pixels(
                geometry.select(["layover", "shadow"]).addBands(cast.rename("cast")), grid
            )
    inside = np.s_[20:-20, 20:-20]
    ours = {name: found[name][inside] > 0.5 for name in ("layover", "shadow", "cast")}
    true = {name: values[inside] for name, values in truth.items()}
    dark = true["hidden"] | true["shadow"]
    return {
        "direction_to_satellite": direction,
        "layover_of_the_slope_f1": round(f1(ours["layover"], true["layover"]), 3),
        "shadow_of_the_slope_f1": round(f1(ours["shadow"], true["shadow"]), 3),
        "cast_shadow_f1": round(f1(ours["cast"] | ours["shadow"], dark), 3),
        "pixels": int(dark.size),
        "share_layover_of_the_slope": round(float(true["layover"].mean()), 4),
        "share_shadow_of_the_slope": round(float(true["shadow"].mean()), 4),
        "share_cast_shadow": round(float(dark.mean()), 4),
        "share_passive_layover_not_found": round(
            float((true["folded"] & ~true["layover"]).mean()), 4
        ),
        "steepest_degrees": round(
            float(np.degrees(np.arctan(np.hypot(*np.gradient(heights, 10.0)))).max()), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--cols", type=int, default=768)
    options = parser.parse_args()
    report = {
        "massif": [massif(direction) for direction in (90.0, 257.8, 106.0)],
        "valley": valley(options.seed, (options.rows, options.cols)),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
