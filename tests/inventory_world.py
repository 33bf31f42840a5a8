"""A small workspace whose maps and images are painted, not computed (made up), for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from thawslump.grid import lonlat_bounds
from thawslump.raster import write_cog
from thawslump.vector import rasterize
from thawslump.workspace import Workspace

CRS = "EPSG:32652"


def smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NDArray[np.float64]:
    """Noise of one wavelength, mean 0, standard deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect")
    return (field - field.mean()) / field.std()


def blob(rng: np.random.Generator, x: float, y: float, radius: float) -> shapely.Polygon:
    """A horseshoe-like outline."""
    angle = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    wobble = 1 + 0.18 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.12 * rng.standard_normal(26)
    r = radius * wobble * (1 + 0.5 * np.cos(angle - rng.uniform(0, 6)) ** 2)
    return shapely.Polygon(
        np.stack([x + r * np.cos(angle), y + 0.8 * r * np.sin(angle)], 1)
    ).buffer(0)


def make_world(
    root: Path,
    *,
    slumps: int = 20,
    false: int = 0,
    shape: tuple[int, int] = (320, 400),
    reviewer: str = "people",
    seed: int = 1,
) -> Workspace:
    """Write a workspace with one area: context, stack, map of round 1, truth.

    `slumps` true outlines and `false` ones that look alike are in the map of round 1, all apart.
    """
    rng = np.random.default_rng(seed)
    grid = GeoBox(shape, Affine(10, 0, 500_000, 0, -10, 7_970_000), CRS)
    count = slumps + false
    columns = int(np.ceil(np.sqrt(count * shape[1] / shape[0])))
    lines = int(np.ceil(count / columns))
    shapes = []
    for i in range(count):
        column, line = i % columns, i // columns
        x = 500_000 + 10 * (column + 0.5) * shape[1] / columns + rng.uniform(-30, 30)
        y = 7_970_000 - 10 * (line + 0.5) * shape[0] / lines + rng.uniform(-30, 30)
        cell = 10 * min(shape[0] / lines, shape[1] / columns)
        shapes.append(blob(rng, x, y, rng.uniform(0.12, 0.22) * cell))
    order = rng.permutation(count)
    true = [shapes[i] for i in order[:slumps]]
    root.mkdir(parents=True, exist_ok=True)
    (root / "areas").mkdir(exist_ok=True)
    west, south, east, north = lonlat_bounds(grid)
    (root / "thawslump.yaml").write_text(
        f"name: painted hills\nmade_up: true\nreview: {{reviewer: {reviewer}, seed: 3}}\n"
        "rounds: {maximum: 2}\n"
    )
    (root / "areas" / "hills.yaml").write_text(
        f"name: hills\nrole: area\nbounds: [{west}, {south}, {east}, {north}]\ncrs: {CRS}\n"
        "pre: {start: 2019-06-15, end: 2019-09-01}\npost: {start: 2023-06-15, end: 2023-09-01}\n"
        "made_up: true\n"
    )
    workspace = Workspace(root)
    write_images(workspace, "hills", grid, true, rng)
    write_map(workspace, "hills", grid, shapes, rng)
    import geopandas

    workspace.truth.mkdir(exist_ok=True)
    geopandas.GeoDataFrame(geometry=true, crs=CRS).to_file(
        workspace.truth / "slumps.gpkg", engine="pyogrio"
    )
    return workspace


def write_images(
    workspace: Workspace,
    site: str,
    grid: GeoBox,
    slumps: list[shapely.Polygon],
    rng: np.random.Generator,
) -> None:
    shape = tuple(grid.shape)
    inside = rasterize(slumps, grid).astype(float)
    soft = ndimage.gaussian_filter(inside, 0.7)
    relief = 40 * smooth(rng, shape, 30) + 8 * smooth(rng, shape, 8) + 1.5 * smooth(rng, shape, 2.5)
    relief -= 4 * soft
    dy, dx = np.gradient(relief, 10.0)
    light = (1 + 2.2 * (dx - dy)) / np.sqrt(1 + dx**2 + dy**2)
    wet = smooth(rng, shape, 14)
    green = 0.55 + 0.16 * smooth(rng, shape, 5) + 0.10 * wet + 0.03 * smooth(rng, shape, 1)
    bands = {}
    for date, gone, season in (("pre", 0.12, 0.0), ("post", 0.92, 0.03)):
        plants = np.clip(green + season - gone * soft * 0.75, 0.03, 1.0)
        soil = 1 - plants
        water = wet < -1.9
        for name, plant, bare, lake in (
            ("red", 0.035, 0.21, 0.022),
            ("green", 0.060, 0.17, 0.035),
            ("blue", 0.030, 0.12, 0.040),
            ("nir", 0.340, 0.27, 0.012),
        ):
            value = (plants * plant + soil * bare) * np.clip(0.72 + 0.28 * light, 0.3, 1.6)
            value = np.where(water, lake, value) * (1 + 0.02 * rng.standard_normal(shape))
            bands[f"{date}_{name}"] = np.clip(value * 10_000, 1, 12_000).astype("uint16")
    bands["hillshade"] = np.clip(light * 150, 0, 255).astype("uint16")
    hole = slice(0, 24), slice(0, 40)
    for name in ("pre_red", "pre_green", "pre_blue", "pre_nir"):
        bands[name][hole] = 65535
    write_cog(
        workspace.context(site),
        np.stack(list(bands.values())),
        grid,
        tuple(bands),
        nodata=65535,
        tags={"made_up": "true"},
    )
    difference = (-0.5 * soft + 0.04 * smooth(rng, shape, 2)).astype("float32")
    write_cog(
        workspace.stack(site), difference[None], grid, ("dNDVI",), nodata=float("nan"),
        tags={"made_up": "true"},
    )  # fmt: skip


def write_map(
    workspace: Workspace,
    site: str,
    grid: GeoBox,
    shapes: list[shapely.Polygon],
    rng: np.random.Generator,
    round: int = 1,
) -> None:
    shape = tuple(grid.shape)
    inside = np.zeros(shape)
    for polygon in shapes:
        one = rasterize([polygon], grid).astype(float)
        inside = np.maximum(inside, ndimage.gaussian_filter(one, 0.8) * rng.uniform(0.78, 1.0))
    probability = np.clip(inside + 0.03 * np.abs(smooth(rng, shape, 2)), 0, 1)
    disagreement = 0.5 * np.sqrt(probability * (1 - probability)) * rng.uniform(0.5, 1)
    bands = np.stack([probability, disagreement, np.zeros(shape)])
    write_cog(
        workspace.maps(round) / f"{site}.tif",
        (bands * 10_000).round().astype("uint16"),
        grid,
        ("probability", "disagreement", "filled"),
        nodata=65535,
        scales=(1e-4,) * 3,
        tags={"made_up": "true"},
    )
    ensemble = workspace.models(round) / "ensemble"
    ensemble.mkdir(parents=True, exist_ok=True)
    (ensemble / "metrics.json").write_text(json.dumps({"threshold": 0.5}))


def work_out(workspace: Workspace, step: str, round: int = 1) -> dict[str, dict[str, object]]:
    """Plan a step of the inventory and run its items in this process; return their facts."""
    from thawslump.config import target
    from thawslump.pipeline import Waiting, step_named

    plan = target(step_named(step).plan)(workspace, round)
    assert not isinstance(plan, Waiting), plan
    return {i.name: target(i.target)(i, workspace, lambda part, words: None) for i in plan}
