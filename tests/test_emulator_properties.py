"""The pixel engine against a slow evaluator of the documented rules, and against itself in tiles.

Random graphs equal `emulator_reference`, which computes one pixel at a time; and what a request
gives does not depend on how it is cut: tile sizes, threads, where a window begins, one window or
parts of it under other affine transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import NATIVE, NORTH, UTM, WEST, Earth, band, box, earth
from emulator_reference import Asset, Grid, Kind, Reference
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_emulator_engine_every_function import LISTS, VALUES, call

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.image import Image
from gee.emulator.pixels import Limits, render
from gee.emulator.projection import PixelGrid, transformer
from gee.emulator.signatures import signatures

SIZE = 48
RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def stored(array: np.ndarray, mask: np.ndarray | None = None) -> Asset:
    """Return a band as the reference holds it."""
    kinds = {"uint8": Kind("int", 0, 255), "float32": Kind("float")}
    mask = np.ones(array.shape, bool) if mask is None else mask
    return Asset(array, mask, Grid(UTM, NATIVE), kinds[array.dtype.name])


class World(Earth):
    """The engine and the reference over the same pixels."""

    reference: Reference


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(11)
    assets: dict[str, dict[str, np.ndarray]] = {
        # Few values, so that neighbours are equal; quarters, which float32 adds exactly.
        "P/one": {
            "a": random.integers(0, 4, (SIZE, SIZE)).astype(np.uint8),
            "b": (random.integers(-200, 200, (SIZE, SIZE)) / 4).astype(np.float32),
        },
        "P/two": {
            "a": random.integers(0, 250, (SIZE, SIZE)).astype(np.uint8),
            "b": (random.integers(-200, 200, (SIZE, SIZE)) / 4).astype(np.float32),
        },
        "P/pyramid": {"a": (random.integers(0, 64, (600, 520)) / 4).astype(np.float32)},
        "P/wide": {"k": random.integers(0, 3, (160, 160)).astype(np.uint8)},
        "P/hills": {"z": hills(160)},
    }
    holes = {
        name: {b: random.random(v.shape) > 0.15 for b, v in bands.items()}
        for name, bands in assets.items()
        if name != "P/hills"
    }
    with earth(tmp_path_factory.mktemp("properties")) as found:
        made = World.__new__(World)
        made.__dict__ = found.__dict__
        for name, bands in assets.items():
            masks = holes.get(name, {})
            found.put(name, *(band(b, v, masks.get(b)) for b, v in bands.items()))
        made.reference = Reference(
            {
                name: {b: stored(v, holes.get(name, {}).get(b)) for b, v in bands.items()}
                for name, bands in assets.items()
            }
        )
        yield made


def hills(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    noise = np.random.default_rng(3).normal(0, 2, (size, size))
    return (300 + 40 * np.sin(x / 9) * np.cos(y / 7) + noise).astype(np.float32)


# ------------------------------------------------------------------ output grids


def grid_at(crs: str, size: tuple[float, ...], column: int, row: int) -> PixelGrid:
    """Return a 6 x 5 grid of pixels whose lattice begins in a corner of the made-up assets."""
    x, y = transformer(UTM, crs).transform(WEST + 60, NORTH - 60)
    a, b, d, e = size
    return PixelGrid(crs, (a, b, x + a * column, d, e, y + e * row), 6, 5)


GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "native": (UTM, (10, 0, 0, -10)),
    "between": (UTM, (9.5, 0, 0, -9.25)),
    "fine": (UTM, (3, 0, 0, -3)),
    "coarse": (UTM, (40, 0, 0, -40)),
    "tiny": (UTM, (0.01, 0, 0, -0.01)),
    "huge": (UTM, (3000, 0, 0, -3000)),
    "southward": (UTM, (10, 0, 0, 10)),
    "turned": (UTM, (8.0, 3.0, 2.0, -9.0)),
    "mercator": ("EPSG:3857", (25, 0, 0, -25)),
    "polar": ("EPSG:3413", (15, 0, 0, -15)),
    "polar, turned": ("EPSG:3413", (9, 5, -5, 9)),
    "degrees": ("EPSG:4326", (0.0002, 0, 0, -0.0001)),
}


@st.composite
def grids(draw: st.DrawFn, names: tuple[str, ...] = tuple(GRIDS)) -> PixelGrid:
    crs, size = GRIDS[draw(st.sampled_from(names))]
    return grid_at(crs, size, draw(st.integers(-8, 40)), draw(st.integers(-8, 40)))


# ------------------------------------------------------------------ random graphs

Recipe = Any

LEAVES = st.one_of(
    st.sampled_from([("load", "P/one"), ("load", "P/two"), ("band", "P/one", "a")]),
    st.sampled_from([("band", "P/one", "b"), ("band", "P/two", "b"), ("band", "P/two", "a")]),
    st.tuples(st.just("constant"), st.integers(-3, 300)),
    st.tuples(st.just("constant"), st.integers(-20, 20).map(lambda n: n / 4 + 0.125)),
)
UNARY = (
    "abs", "not", "floor", "ceil", "round", "toByte", "toInt8", "toInt16", "toFloat", "toDouble",
    "selfMask", "mask",
)  # fmt: skip
BINARY = (
    "add", "subtract", "divide", "mod", "max", "min", "gt", "gte", "lt", "lte", "eq", "neq", "and",
    "or", "addBands",
)  # fmt: skip
TARGETS = {
    "same": (UTM, [10, 0, WEST, 0, -10, NORTH], None),
    "shifted": (UTM, [10, 0, WEST + 3, 0, -10, NORTH - 4], None),
    "twenty": (UTM, None, 20),
    "mercator": ("EPSG:3857", None, 37),
    "polar": ("EPSG:3413", [11, 0, 7, 0, -11, 5], None),
}


def extend(inner: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    return st.one_of(
        st.tuples(st.sampled_from(UNARY), inner),
        st.tuples(st.sampled_from(BINARY), inner, inner),
        st.tuples(st.just("multiply"), inner, st.sampled_from([2, -1, 0.5, 0.25])),
        st.tuples(st.sampled_from(["updateMask", "setMask", "unmask"]), inner, inner),
        st.tuples(st.just("where"), inner, inner, inner),
        st.tuples(st.just("fraction"), inner, st.sampled_from([0.25, 0.5])),
        st.tuples(st.just("clamp"), inner, st.integers(-9, 0), st.integers(1, 99)),
        st.tuples(st.just("sqrt"), inner),
        st.tuples(st.just("normalizedDifference"), inner),
        st.tuples(st.just("reproject"), inner, st.sampled_from(sorted(TARGETS))),
        st.tuples(st.just("setDefaultProjection"), inner, st.sampled_from(sorted(TARGETS))),
        st.tuples(st.sampled_from(["focalMax", "focalMean", "spread", "near"]), inner),
        st.tuples(
            st.sampled_from(["median", "mosaic", "min of", "max of", "mean of"]), inner, inner
        ),
    )


RECIPES = st.recursive(LEAVES, extend, max_leaves=6)


def one(image: ee.Image) -> ee.Image:
    return image.select([0])


def build(recipe: Recipe) -> ee.Image:
    """Return the image that a recipe names, by the client."""
    what, *rest = recipe
    if what == "load":
        return ee.Image(rest[0])
    if what == "band":
        return ee.Image(rest[0]).select(rest[1])
    if what == "constant":
        return ee.Image.constant(rest[0])
    image = build(rest[0])
    if what in UNARY:
        return getattr(image, {"not": "Not"}.get(what, what))()
    if what in BINARY:
        other = build(rest[1])
        if what == "addBands":
            return image.addBands(other)
        return getattr(image, {"and": "And", "or": "Or"}.get(what, what))(other)
    if what == "multiply":
        return image.multiply(rest[1])
    if what == "updateMask":
        return image.updateMask(one(build(rest[1])))
    if what == "setMask":
        return image.mask(one(build(rest[1])))
    if what == "unmask":
        return image.unmask(one(build(rest[1])), False)
    if what == "where":
        return image.where(one(build(rest[1])), one(build(rest[2])))
    if what == "fraction":
        return image.updateMask(image.mask().select([0]).multiply(rest[1]))
    if what == "clamp":
        return image.clamp(rest[1], rest[2])
    if what == "sqrt":
        return image.abs().sqrt()
    if what == "normalizedDifference":
        return one(image).rename("first").addBands(one(image).add(2).rename("second")) \
            .normalizedDifference(["first", "second"])  # fmt: skip
    if what == "reproject":
        return image.reproject(*TARGETS[rest[1]])
    if what in ("focalMax", "focalMean"):
        return getattr(image, what)(1, "square")
    if what == "spread":
        return image.reduceNeighborhood(ee.Reducer.variance(), ee.Kernel.plus(1))
    if what == "near":
        return one(image).gt(1).fastDistanceTransform(2)
    if what == "setDefaultProjection":
        return image.setDefaultProjection(*TARGETS[rest[1]])
    # Bands of a collection go together by name.
    images = ee.ImageCollection([one(i).rename("v") for i in (image, build(rest[1]))])
    if what == "mosaic":
        return images.mosaic()
    return getattr(images, what.removesuffix(" of"))()


def agree(
    world: World, image: ee.Image, grid: PixelGrid, value: float = 1e-5, mask: float = 1e-6
) -> int:
    """Assert that engine and reference give the same; return how many pixels were compared."""
    graph = world.graph(image)
    lazy = world.engine.evaluate(graph)
    found = render(lazy, grid, None, Limits(tile=4, threads=1))
    expected = world.reference.evaluate(graph)
    assert list(found) == list(expected)
    lattice = Grid(grid.crs, grid.transform)
    compared = 0
    for name, reference in expected.items():
        kind = lazy.band(name).type
        assert reference.kind.precision in ("?", kind.precision)
        if reference.kind.low is not None:
            assert (kind.low, kind.high) == (reference.kind.low, reference.kind.high)
        data, valid = found[name]
        for row in range(grid.height):
            for column in range(grid.width):
                pixel = reference.at(lattice, column, row)
                if not pixel.sure:
                    continue
                place = f"{name} at ({row}, {column})"
                assert float(valid[row, column]) == pytest.approx(pixel.mask, abs=mask), place
                if pixel.mask > 0:
                    got = data[row, column].item()
                    assert got == pytest.approx(float(pixel.value), rel=value, abs=value), place
                    compared += 1
                else:
                    assert data[row, column] == 0, place
    return compared


PLAIN = grid_at(UTM, (10, 0, 0, -10), 0, 0)


@given(recipe=RECIPES, grid=grids())
@settings(max_examples=200, deadline=None, suppress_health_check=RELAXED)
@example(("divide", ("load", "P/one"), ("band", "P/one", "a")), PLAIN)
@example(("add", ("fraction", ("load", "P/one"), 0.5), ("load", "P/two")), PLAIN)
@example(
    ("max", ("fraction", ("load", "P/one"), 0.5), ("fraction", ("load", "P/two"), 0.25)), PLAIN
)
@example(("mean of", ("fraction", ("load", "P/one"), 0.25), ("load", "P/two")), PLAIN)
@example(("mosaic", ("load", "P/two"), ("fraction", ("load", "P/one"), 0.5)), PLAIN)
@example(("unmask", ("fraction", ("load", "P/one"), 0.5), ("band", "P/two", "b")), PLAIN)
@example(("where", ("load", "P/one"), ("load", "P/two"), ("band", "P/two", "b")), PLAIN)
def test_random_graphs_equal_the_reference(world: World, recipe: Recipe, grid: PixelGrid) -> None:
    "Arithmetic, masks, casts, bands, reprojections and composites: values, masks and types."
    agree(world, build(recipe), grid)


NEIGHBOURS: dict[str, Callable[[ee.Image], ee.Image]] = {
    "focalMax": lambda i: i.focalMax(2, "circle"),
    "focalMin": lambda i: i.focalMin(1, "square"),
    "focalMean": lambda i: i.focalMean(2, "plus"),
    "focalMedian": lambda i: i.focalMedian(1.5, "circle"),
    "stdDev": lambda i: i.reduceNeighborhood(ee.Reducer.stdDev(), ee.Kernel.square(1)),
    "variance": lambda i: i.reduceNeighborhood(ee.Reducer.variance(), ee.Kernel.circle(2)),
    "mean, by masks": lambda i: i.updateMask(i.mask().multiply(0.5)).reduceNeighborhood(
        ee.Reducer.mean(), ee.Kernel.plus(2), "mask", False
    ),
    "sum of a skewed kernel": lambda i: i.reduceNeighborhood(
        ee.Reducer.mean(), ee.Kernel.fixed(3, 2, [[1, 2, 0], [0, 1, 3]], 0, 1)
    ),
    "count": lambda i: i.reduceNeighborhood(
        ee.Reducer.count(), ee.Kernel.square(1), "kernel", False
    ),
    "convolve": lambda i: i.convolve(ee.Kernel.fixed(3, 3, [[1, 2, 3], [0, 5, 0], [-1, 0, 0.5]])),
    "convolve, skewed": lambda i: i.unmask(0, False).convolve(
        ee.Kernel.fixed(3, 2, [[1, 2, 3], [4, 5, 6]], 2, 0)
    ),
    "fastDistanceTransform": lambda i: i.gt(1).fastDistanceTransform(3),
    "manhattan": lambda i: i.eq(3).fastDistanceTransform(3, "pixels", "manhattan"),
    "chebyshev": lambda i: i.eq(3).fastDistanceTransform(3, "pixels", "chebyshev"),
    "distance": lambda i: i.eq(3).distance(ee.Kernel.euclidean(2.5)),
    "distance over masks": lambda i: i.eq(3).distance(ee.Kernel.manhattan(3), False),
    "patches": lambda i: i.connectedPixelCount(9, False),
    "patches with corners": lambda i: i.connectedPixelCount(5, True),
    "derivative": lambda i: i.derivative(),
}


@given(name=st.sampled_from(sorted(NEIGHBOURS)), second=st.booleans(), grid=grids())
@settings(max_examples=90, deadline=None, suppress_health_check=RELAXED)
def test_neighbourhoods_equal_the_reference(
    world: World, name: str, second: bool, grid: PixelGrid
) -> None:
    "Neighbours are those of the output grid, whatever it is (apidocs ee-kernel-circle)."
    agree(world, NEIGHBOURS[name](ee.Image("P/one").select("b" if second else "a")), grid)


@given(grid=grids(("native", "between", "fine", "southward", "turned", "polar, turned")))
@settings(max_examples=20, deadline=None, suppress_health_check=RELAXED)
def test_slopes_equal_the_reference(world: World, grid: PixelGrid) -> None:
    "[A] Terrain.slope, on grids that run along the axes, against them and across them."
    agree(world, ee.Terrain.slope(ee.Image("P/hills")), grid)


@given(
    mode=st.sampled_from(["bilinear", "bicubic"]),
    name=st.sampled_from(["a", "b"]),
    holes=st.booleans(),
    grid=grids(("native", "between", "fine", "coarse", "southward", "turned", "tiny")),
)
@settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)
def test_interpolation_equals_the_reference(
    world: World, mode: str, name: str, holes: bool, grid: PixelGrid
) -> None:
    "guides/resample: from the image's own pixels, or those of the level that nearest would take."
    image = ee.Image("P/one").select(name)
    if not holes:
        # Computed images interpolate too: on the grid that they have by default.
        image = image.unmask(3, False)
    a, b, c, d, e, f = grid.transform
    corners = [
        (c + a * i + b * j - WEST, f + d * i + e * j - NORTH) for i in (0, 6) for j in (0, 5)
    ]
    if not holes or all(30 < x < 450 and 30 < -y < 450 for x, y in corners):
        agree(world, image.resample(mode), grid, value=1e-4)


@given(
    reducer=st.sampled_from(["mean", "sum", "min", "max"]),
    name=st.sampled_from(["a", "b"]),
    grid=grids(("native", "between", "coarse", "turned", "southward", "mercator", "polar")),
)
@settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)
def test_reduced_resolution_equals_the_reference(
    world: World, reducer: str, name: str, grid: PixelGrid
) -> None:
    "[A] Image.reduceResolution: weights are the mask times the covered fraction of the output."
    image = ee.Image("P/one").select(name)
    made = image.reduceResolution(getattr(ee.Reducer, reducer)(), False, 64)
    # Positions on other coordinate systems are exact to 0.005 pixels.
    exact = grid.crs == UTM or reducer in ("min", "max")
    if exact and grid.crs != UTM:
        return
    agree(world, made, grid, value=1e-4 if exact else 0.6)


@given(grid=grids(("coarse", "huge", "native", "between")), mode=st.sampled_from(["n", "b"]))
@settings(max_examples=20, deadline=None, suppress_health_check=RELAXED)
def test_pyramids_equal_the_reference(world: World, grid: PixelGrid, mode: str) -> None:
    "guides/scale: means of 2 x 2 pixels by their masks, down to 256 pixels."
    image = ee.Image("P/pyramid")
    agree(world, image if mode == "n" else image.add(1).floor(), grid, value=1e-4)


@given(
    edges=st.tuples(st.floats(0, 15), st.floats(16, 40), st.floats(0, 15), st.floats(16, 40)),
    grid=grids(("native", "between", "coarse", "turned", "polar, turned")),
)
@settings(max_examples=30, deadline=None, suppress_health_check=RELAXED)
def test_clipped_masks_equal_the_reference(
    world: World, edges: tuple[float, float, float, float], grid: PixelGrid
) -> None:
    "guides/reducers_weighting: pixels on the edge have the covered fraction as mask."
    agree(world, ee.Image("P/two").clip(box(*edges)), grid, mask=0.012)


@given(grid=grids(("native", "between", "coarse")), order=st.permutations([0, 1, 2]))
@settings(max_examples=15, deadline=None, suppress_health_check=RELAXED)
def test_quality_mosaics_equal_the_reference(
    world: World, grid: PixelGrid, order: list[int]
) -> None:
    "guides/ic_composite_mosaic: every band from the image with the greatest quality."
    images = [
        ee.Image("P/one"), ee.Image("P/two"), ee.Image("P/two").select(["b", "a"], ["a", "b"]),
    ]  # fmt: skip
    stack = ee.ImageCollection([images[k].toFloat() for k in order])
    agree(world, stack.qualityMosaic("b"), grid)


# ------------------------------------------------------------------ tiles and windows


def cuts(world: World) -> dict[str, ee.Image]:
    """Return an image for everything that reads beyond its own pixels."""
    z = ee.Image("P/hills")
    k = ee.Image("P/wide")
    v = k.unmask(0, False).add(z.divide(100))
    holes = z.updateMask(k.mask())
    source = k.eq(2)
    paths = ee.Image(1).add(k.unmask(9, False)).toFloat()
    point = ee.Geometry.Point([WEST + 703, NORTH - 611], UTM)
    clipped = z.clip(point.buffer(290))
    return {
        "focalMean": holes.focalMean(3, "circle"),
        "focalMax, twice": holes.focalMax(2, "square", "pixels", 2),
        "focalMin in metres": holes.focalMin(37, "circle", "meters"),
        "focalMedian": holes.focalMedian(2, "octagon"),
        "focalMode": k.focalMode(2, "diamond"),
        "convolve": v.convolve(ee.Kernel.gaussian(5, 2)),
        "convolve in metres": v.convolve(ee.Kernel.gaussian(60, 25, "meters")),
        "convolve, large": v.convolve(ee.Kernel.circle(9)),
        "convolve, skewed": v.convolve(ee.Kernel.fixed(3, 2, [[1, 2, 3], [4, 5, 6]], 2, 0)),
        "laplacian": z.convolve(ee.Kernel.laplacian8()),
        "reduceNeighborhood": holes.reduceNeighborhood(
            ee.Reducer.mean().combine(ee.Reducer.stdDev(), "", True), ee.Kernel.circle(3)
        ),
        "percentile": holes.reduceNeighborhood(ee.Reducer.percentile([20]), ee.Kernel.square(2)),
        "kernel in metres": holes.reduceNeighborhood(
            ee.Reducer.stdDev(), ee.Kernel.square(45, "meters")
        ),
        "neighborhoodToBands": holes.neighborhoodToBands(ee.Kernel.plus(1)),
        "entropy": k.entropy(ee.Kernel.square(3)),
        "fastDistanceTransform": source.fastDistanceTransform(24),
        "fastDistanceTransform, manhattan": source.fastDistanceTransform(9, "pixels", "manhattan"),
        "distance": source.distance(ee.Kernel.euclidean(12)),
        "distance in metres": source.distance(ee.Kernel.euclidean(90, "meters")),
        "distance, chebyshev": k.eq(0).distance(ee.Kernel.chebyshev(5), False),
        "directionalDistanceTransform": source.directionalDistanceTransform(37, 14),
        "directional, with values": v.addBands(source.rename("s")).directionalDistanceTransform(
            200, 9, "s"
        ),
        "cumulativeCost": paths.cumulativeCost(source.updateMask(source), 120),
        "cumulativeCost in the plane": paths.updateMask(k.mask()).cumulativeCost(
            z.gt(335), 260, False
        ),
        "connectedPixelCount": k.connectedPixelCount(20, True),
        "connectedPixelCount, four": k.connectedPixelCount(7, False),
        "connectedComponents": k.connectedComponents(ee.Kernel.plus(1), 25),
        "connectedComponents, by jumps": k.connectedComponents(
            ee.Kernel.fixed(5, 5, [[0, 0, 1, 0, 0], [0] * 5, [1, 0, 1, 0, 1], [0] * 5, [0] * 5]), 6
        ),
        "reduceConnectedComponents": k.addBands(z).reduceConnectedComponents(
            ee.Reducer.mean(), "k", 16
        ),
        "slope": ee.Terrain.slope(z),
        "aspect": ee.Terrain.aspect(holes),
        "hillshade": ee.Terrain.hillshade(z, 250, 30),
        "products": ee.Terrain.products(z),
        "hillShadow": ee.Terrain.hillShadow(z, 140, 70, 20),
        "gradient": holes.gradient(),
        "derivative": holes.derivative(),
        "zeroCrossing": z.subtract(300).zeroCrossing(),
        "reproject": holes.reproject("EPSG:3857", None, 37),
        "reproject, polar": holes.reproject("EPSG:3413", [17, 3, 5, 2, -19, 8]),
        "slope, reprojected": ee.Terrain.slope(z.reproject("EPSG:4326", None, 15)),
        "bilinear": holes.resample("bilinear").reproject("EPSG:3857", None, 23),
        "bicubic": v.resample("bicubic"),
        "bicubic, polar": v.resample("bicubic").reproject("EPSG:3413", None, 12).focalMean(1),
        "reduceResolution": k.reduceResolution(ee.Reducer.mean(), False, 64).reproject(
            UTM, None, 40
        ),
        "reduceResolution of degrees": k.toFloat().reproject("EPSG:4326", None, 11)
        .reduceResolution(ee.Reducer.mean().unweighted(), False, 256)
        .reproject("EPSG:3413", None, 53),
        "reduceResolution, stdDev": holes.reduceResolution(ee.Reducer.stdDev(), True, 16),
        "translate": z.translate(33, -14),
        "clip": z.clip(point.buffer(310)),
        # In some tiles every pixel is whole, in others some are there in part.
        "mosaic": ee.ImageCollection([z, clipped.add(1)]).mosaic(),
        "first of a stack": ee.ImageCollection([clipped, z]).reduce(ee.Reducer.firstNonNull()),
        "mean of a stack": ee.ImageCollection([z, clipped.add(9), holes]).mean(),
        "median of a stack": ee.ImageCollection([z, clipped.add(9), holes]).median(),
        "minimum of a stack": ee.ImageCollection([holes, clipped.subtract(9)]).min(),
        "qualityMosaic": ee.ImageCollection(
            [i.addBands(i.multiply(m).rename("q")) for i, m in ((z, -1), (clipped, 1), (holes, -2))]
        ).qualityMosaic("q"),
        "masks": clipped.add(holes)
        .addBands(clipped.mask())
        .addBands(z.updateMask(clipped.mask()).unmask(clipped.add(5), False))
        .addBands(z.where(clipped.gt(300), holes))
        .addBands(z.blend(clipped)),
        "neighbours in part": clipped.focalMean(2).addBands(
            clipped.reduceNeighborhood(ee.Reducer.sum(), ee.Kernel.square(1), "mask", False)
        ),
        "reduceResolution in part": clipped.reduceResolution(ee.Reducer.mean(), False, 256)
        .reproject(UTM, None, 70),
        "bilinear in part": clipped.resample("bilinear").reproject(UTM, [9, 0, 3, 0, -9, 5]),
        "distance to features": ee.FeatureCollection([ee.Feature(point)]).distance(900),
        "random": ee.Image.random(7),
        "pixelArea": ee.Image.pixelArea(),
        "pixelLonLat": ee.Image.pixelLonLat().addBands(ee.Image.pixelCoordinates("EPSG:3413")),
        "powers": z.pow(2).addBands(z.divide(300).sin().exp()).addBands(z.log10().pow(k.add(2))),
    }  # fmt: skip


NAMES = (
    "focalMean", "focalMax, twice", "focalMin in metres", "focalMedian", "focalMode", "convolve",
    "convolve in metres", "convolve, large", "convolve, skewed", "laplacian",
    "reduceNeighborhood", "percentile", "kernel in metres", "neighborhoodToBands", "entropy",
    "fastDistanceTransform", "fastDistanceTransform, manhattan", "distance",
    "distance in metres", "distance, chebyshev", "directionalDistanceTransform",
    "directional, with values", "cumulativeCost", "cumulativeCost in the plane",
    "connectedPixelCount", "connectedPixelCount, four", "connectedComponents",
    "connectedComponents, by jumps", "reduceConnectedComponents", "slope", "aspect",
    "hillshade", "products", "hillShadow", "gradient", "derivative", "zeroCrossing",
    "reproject", "reproject, polar", "slope, reprojected", "bilinear", "bicubic",
    "bicubic, polar", "reduceResolution", "reduceResolution of degrees",
    "reduceResolution, stdDev", "translate", "clip", "distance to features", "random",
    "pixelArea", "pixelLonLat", "powers", "mosaic", "first of a stack", "mean of a stack",
    "median of a stack", "minimum of a stack", "qualityMosaic", "masks", "neighbours in part",
    "reduceResolution in part", "bilinear in part",
)  # fmt: skip

SPACES: dict[str, PixelGrid] = {
    "native": PixelGrid(UTM, (10, 0, WEST + 50, 0, -10, NORTH - 70), 140, 130),
    "coarse": PixelGrid(UTM, (25, 0, WEST - 45, 0, -25, NORTH + 30), 75, 70),
    "degrees": PixelGrid("EPSG:4326", (0.00021, 0, 15.0004, 0, -0.00011, 60.435), 130, 120),
    "turned": PixelGrid(UTM, (8.0, 3.0, WEST + 90, 2.0, -9.0, NORTH - 150), 110, 120),
}
Whole = dict[str, tuple[np.ndarray, np.ndarray]]


def equal(found: Whole, expected: Whole, rows: slice, columns: slice) -> None:
    assert found.keys() == expected.keys()
    for name, (data, mask) in expected.items():
        np.testing.assert_array_equal(
            found[name][1].astype(float), mask[rows, columns].astype(float), err_msg=name
        )
        np.testing.assert_array_equal(found[name][0], data[rows, columns], err_msg=name)


@pytest.mark.parametrize("space", ["native", "degrees"])
@pytest.mark.parametrize("name", NAMES)
def test_cuts_make_no_difference(world: World, name: str, space: str) -> None:
    "Tiles of any size, parts of a window, and grids that begin with another pixel: same bits."
    grid = SPACES[space]
    image = world.value(cuts(world)[name])
    try:
        whole = render(image, grid, None, Limits(tile=1024, threads=1))
    except EngineError as error:
        assert "only in the coordinate system of the output" in str(error)
        return
    everything = slice(0, grid.height), slice(0, grid.width)
    assert any(mask.any() for _, mask in whole.values())
    for tile, threads in ((37, 1), (64, 2)):
        equal(render(image, grid, None, Limits(tile=tile, threads=threads)), whole, *everything)
    a, b, c, d, e, f = grid.transform
    for row, column, height, width in ((13, 41, 29, 60), (101, 77, 1, 1)):
        # As chunks of a client: another first pixel in every transform.
        corner = c + a * column + b * row, f + d * column + e * row
        part = PixelGrid(grid.crs, (a, b, corner[0], d, e, corner[1]), width, height)
        found = render(image, part, None, Limits(tile=16, threads=1))
        equal(found, whole, slice(row, row + height), slice(column, column + width))


@given(
    name=st.sampled_from(NAMES),
    space=st.sampled_from(["coarse", "turned"]),
    place=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    size=st.tuples(st.integers(1, 29), st.integers(1, 29)),
    tile=st.sampled_from([16, 37, 64, 512]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
def test_any_cut_makes_no_difference(
    world: World,
    name: str,
    space: str,
    place: tuple[int, int],
    size: tuple[int, int],
    tile: int,
) -> None:
    grid = SPACES[space]
    image = world.value(cuts(world)[name])
    whole = world.__dict__.setdefault("wholes", {})
    if (name, space) not in whole:
        whole[name, space] = render(image, grid, None, Limits(tile=512, threads=1))
    window = grid.part(*place, *size)
    found = render(image, window, None, Limits(tile=tile, threads=1))
    rows = slice(place[0], place[0] + size[0])
    equal(found, whole[name, space], rows, slice(place[1], place[1] + size[1]))


def test_every_name_is_cut(world: World) -> None:
    assert sorted(cuts(world)) == sorted(NAMES)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, world: World) -> World:
    "The assets that `test_emulator_engine_every_function` names, beside the others."
    random = np.random.default_rng(0)
    world.catalog.put_collection("T/c")
    for name in ("T/a", "T/c/i0", "T/c/i1"):
        world.put(
            name,
            band("a", random.integers(0, 9, (64, 64)).astype(np.uint8)),
            band("b", random.random((64, 64)).astype(np.float32)),
            start=86_400_000,
            p=1,
        )
    return world


@pytest.mark.parametrize("every", [False, True], ids=["required arguments", "all arguments"])
def test_no_function_depends_on_cuts(plain: World, every: bool) -> None:
    "Every registered function that makes an image of plausible arguments."
    grid = PixelGrid(UTM, (10, 0, WEST + 30, 0, -10, NORTH - 30), 34, 30)
    shifted = PixelGrid(UTM, (10, 0, WEST + 30 + 90, 0, -10, NORTH - 30 - 70), 15, 14)
    compared, differ = 0, []
    for name in sorted(load_all()):
        given = {
            a.name: LISTS.get(a.of, VALUES[a.type]) if a.type == "List" else VALUES[a.type]
            for a in signatures()[name].arguments
            if every or not a.optional
        }
        values = {"0": call(name, **given), "x": {"argumentReference": "x"}}
        try:
            image = plain.engine.evaluate({"result": "0", "values": values})
            if not isinstance(image, Image) or not image.bands:
                continue
            whole = render(image, grid, None, Limits(tile=512, threads=1))
            tiles = render(image, grid, None, Limits(tile=16, threads=1))
            part = render(image, shifted, None, Limits(tile=512, threads=1))
        except EngineError:
            continue
        compared += 1
        for b, pair in whole.items():
            for k, array in enumerate(pair):
                same = alike(tiles[b][k], array) and alike(part[b][k], array[7:21, 9:24])
                if not same:
                    differ.append((name, b, ("data", "mask")[k]))
    assert compared > 120
    assert not differ


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == object:  # pixels that are arrays
        return repr(a.tolist()) == repr(b.tolist())
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
