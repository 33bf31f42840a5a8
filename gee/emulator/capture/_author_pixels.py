"""Requests about pixels: grids, masks, resampling, neighbourhoods and terrain."""

from __future__ import annotations

from typing import Any

import ee

from ._author import LONLAT, Book, grid, pattern, projection, square

__all__ = ["write"]

A = "algorithms.json of earthengine-api"


def _columns() -> tuple[Any, Any]:
    """Return the column and row of each pixel of the small grids."""
    xy = ee.Image.pixelCoordinates(projection()).floor()
    return xy.select("x").rename("v"), xy.select("y").rename("v")


def _spot(column: int, row: int) -> Any:
    """Return an image that is 1 in one pixel and 0 elsewhere."""
    x, y = _columns()
    return x.eq(column).And(y.eq(row)).reproject(projection())


def _masks(book: Book) -> None:
    book.rule(
        "masked-pixels",
        "Which value has a masked pixel in NPY?",
        "0 in every type.",
        "reference/rest/v1/projects.image/computePixels is silent",
    )
    x, _ = _columns()
    bands = ee.Image.cat([x.toInt16(), x.toByte(), x.toFloat(), x.toDouble()])
    bands = bands.rename(["short", "byte", "float", "double"]).add(7).updateMask(x.mod(2).eq(0))
    book.pixels("masked-npy", "masked pixels of four types", bands, grid(4, 1))
    book.rule(
        "partial-masks",
        "Which mask has a result whose inputs have masks between 0 and 1?",
        "The lesser of the two for two images, the greatest for a composite; blend covers in "
        "part. Means and sums weigh by masks, other values are not scaled by them.",
        "guides/image_math, guides/ic_composite_mosaic; the partial case is not described",
    )
    a = ee.Image(100).updateMask(0.3).rename("v")
    b = ee.Image(200).updateMask(0.7).rename("v")
    pair = ee.ImageCollection([a, b])
    cases = {
        "value": a, "mask": a.mask(), "add": a.add(b).mask(), "and": a.And(b).mask(),
        "where": a.where(b, 5).mask(), "unmask": a.unmask(9), "twice": a.updateMask(0.5).mask(),
        "mosaic": pair.mosaic().mask(), "mosaicValue": pair.mosaic(), "mean": pair.mean(),
        "meanMask": pair.mean().mask(), "maxMask": pair.max().mask(), "sum": pair.sum(),
        "countMask": pair.count().mask(), "blend": a.blend(b).mask(),
        "selfMask": a.selfMask().mask(),
    }  # fmt: skip
    book.pixels(
        "partial-masks",
        "values and masks",
        ee.Image.cat([image.toDouble() for image in cases.values()]).rename(list(cases)),
        grid(1, 1),
        kind="pixels", rtol=1e-3,
    )  # fmt: skip
    book.rule(
        "clip-edges",
        "Which mask has a pixel that a clip geometry cuts?",
        "The covered fraction.",
        "guides/reducers_weighting",
    )
    cut = ee.Image(1).clip(square(0.25, 3.5, 3.6, 0.9)).mask()
    book.pixels("clip-fractions", "masks of cut pixels", cut, grid(5, 5), kind="pixels", atol=0.01)


def _mask_values(book: Book) -> None:
    book.rule(
        "mask-values",
        "What do masks make of numbers below 0 and above 1?",
        "A negative number counts as 0, a number above 1 as 1.",
        f"{A}, Image.updateMask, Image.mask",
    )
    image = ee.Image(5).toFloat()
    made = [image.updateMask(ee.Image(n)).mask() for n in (-1, -0.5, 0.2, 1, 1.7, 300)] + [
        image.mask(ee.Image(n)).mask() for n in (-1, 0.2, 1.7)
    ]
    book.pixels(
        "mask-values", "masks by numbers outside of 0 to 1", ee.Image.cat(made), grid(1, 1),
        kind="pixels", atol=5e-3,
    )  # fmt: skip


def _grids(book: Book) -> None:
    book.rule(
        "nearest-ties",
        "Which pixel does a point on the border of pixels take?",
        "The one to the right and below.",
        "guides/resample names nearest neighbour only",
    )
    book.pixels("nearest-ties", "centres on corners of pixels", pattern(), grid(6, 6, 20))
    book.pixels(
        "nearest-after-reproject", "a coarse grid on a shifted fine one",
        pattern(30), grid(9, 9, 10, 500_005, 4_999_995),
    )  # fmt: skip
    book.rule(
        "rotated-grids",
        "Are sheared and rotated grids computed pixel by pixel?",
        "Yes: every output pixel's centre is taken to the input.",
        "reference/rest/v1/PixelGrid has the members, nothing says more",
    )
    turned = grid(6, 6, 10, 500_100, 4_999_900, shear=(3, 4))
    book.pixels(
        "rotated", "a pattern and coordinates on a rotated grid",
        pattern().addBands(ee.Image.pixelLonLat()), turned, kind="pixels", rtol=1e-7,
    )  # fmt: skip
    book.rule(
        "longitudes",
        "Do the pixels of a grid in degrees come again after 360 degrees?",
        "Stored images do; pixelLonLat counts on beyond 180.",
        "guides/projections is silent",
    )
    book.pixels(
        "longitudes", "coordinates across 180 and 360 degrees",
        ee.Image.pixelLonLat(), grid(6, 1, 40, 150, 60, LONLAT), kind="pixels", rtol=1e-9,
    )  # fmt: skip
    book.rule(
        "pixel-area",
        "Which area has a pixel: on the ellipsoid, or on a sphere?",
        "On the WGS84 ellipsoid.",
        f"{A}, Image.pixelArea: 'square meters'",
    )
    book.pixels(
        "pixel-area-degrees", "pixels of a degree between 40 and 80 degrees north",
        ee.Image.pixelArea(), grid(1, 4, 10, 10, 80, LONLAT), kind="pixels", rtol=1e-6,
    )  # fmt: skip
    book.pixels(
        "pixel-area-utm", "pixels of 10 m in UTM", ee.Image.pixelArea(), grid(2, 2),
        kind="pixels", rtol=1e-6,
    )  # fmt: skip

    book.rule(
        "resample-kernels",
        "Which weights does resample use, which pixels mask its result, and which type has it?",
        "Bilinear, and Catmull-Rom for bicubic; a masked pixel that contributes masks the "
        "result; integers become float.",
        f"guides/resample; {A}, Image.resample",
    )
    for mode in ("bilinear", "bicubic"):
        holes = pattern(30)
        holes = holes.updateMask(holes.neq(5)).resample(mode)
        book.pixels(
            f"resample-{mode}", f"30 m to 10 m, {mode}, without and with masked pixels",
            ee.Image.cat([pattern(30).resample(mode), holes, holes.mask()]).rename(
                ["v", "holes", "mask"]),
            grid(12, 9, 10, 500_090, 4_999_910), kind="pixels", atol=1e-4,
        )  # fmt: skip
    book.pixels(
        "resample-coarser", "10 m to 30 m, bilinear, of bytes",
        pattern().toByte().resample("bilinear"), grid(5, 5, 30, 500_105, 4_999_895),
        kind="pixels", atol=1e-4,
    )  # fmt: skip
    book.rule(
        "reduce-resolution",
        "How are pixels weighted that lie partly in the output pixel, and how are ties broken?",
        "Covered fraction times mask; the mode takes the least of equally frequent values.",
        f"guides/resample; {A}, Image.reduceResolution",
    )
    holes = pattern()
    holes = holes.updateMask(holes.neq(5))
    book.pixels(
        "reduce-resolution-mean", "10 m to 25 m, mean over masked pixels",
        holes.reduceResolution(ee.Reducer.mean()), grid(5, 5, 25), kind="pixels", rtol=1e-5,
    )  # fmt: skip
    book.pixels(
        "reduce-resolution-mode", "10 m to 20 m, mode of four values",
        pattern().toByte().reduceResolution(ee.Reducer.mode()), grid(6, 6, 20),
    )  # fmt: skip


def _neighbourhoods(book: Book) -> None:
    book.rule(
        "convolve-masks",
        "What does convolve make of masked pixels under its kernel?",
        "A masked pixel under a weight masks the result.",
        f"{A}, Image.convolve is silent",
    )
    holes = pattern()
    holes = holes.updateMask(holes.neq(5))
    smooth = holes.convolve(ee.Kernel.square(1))
    book.pixels(
        "convolve-holes", "a mean of 3 x 3 pixels with holes",
        smooth.addBands(smooth.mask().rename("mask")), grid(7, 7), kind="pixels", rtol=1e-5,
    )  # fmt: skip
    book.pixels(
        "neighbourhood-holes", "deviation and median of neighbours with holes",
        holes.reduceNeighborhood(
            ee.Reducer.stdDev().combine(ee.Reducer.median(), "", True), ee.Kernel.circle(1.5),
            "kernel", False),
        grid(7, 7), kind="pixels", rtol=1e-5,
    )  # fmt: skip
    book.rule(
        "kernels-in-metres",
        "How many pixels has a kernel in metres where the grid stretches?",
        "The radius is divided by the nominal scale of the grid.",
        "guides/image_convolutions: 'resize when the zoom-level is changed'",
    )
    north = grid(9, 9, 100, 1_000_000, 8_400_000, "EPSG:3857")
    at = ee.Image.pixelCoordinates(
        ee.Projection("EPSG:3857", [100, 0, 1_000_000, 0, -100, 8_400_000])
    )
    middle = at.floor().select("x").eq(4).And(at.floor().select("y").eq(4))
    book.pixels(
        "kernel-metres", "a dot, grown by 150 m, at 60 degrees north in EPSG:3857",
        middle.focalMax(150, "circle", "meters"), north,
    )  # fmt: skip
    book.rule(
        "distance-transforms",
        "What do distances give beyond the neighbourhood, and in which units?",
        "fastDistanceTransform: the squared distance of its rim; distance: masked; "
        "directionalDistanceTransform: masked.",
        f"{A}, Image.fastDistanceTransform",
    )
    spot = _spot(6, 6)
    book.pixels(
        "fast-distance", "squared distance to one pixel, neighbourhood of 4",
        spot.fastDistanceTransform(4), grid(13, 13), kind="pixels", rtol=1e-5,
    )  # fmt: skip
    book.pixels(
        "kernel-distance", "metres to one pixel within 40 m",
        spot.distance(ee.Kernel.euclidean(40, "meters"), False).unmask(-1), grid(13, 13),
        kind="pixels", rtol=1e-3,
    )  # fmt: skip
    book.pixels(
        "directional-distance", "distance along an azimuth of 30 degrees",
        spot.directionalDistanceTransform(30, 5).unmask(-1), grid(13, 13),
        kind="pixels", rtol=1e-4,
    )  # fmt: skip
    book.pixels(
        "cumulative-cost", "cost of the way in metres, geodetic and not",
        ee.Image(1).cumulativeCost(spot, 45).unmask(-1).rename("geodetic").addBands(
            ee.Image(1).cumulativeCost(spot, 45, False).unmask(-1).rename("plane")),
        grid(13, 13), kind="pixels", rtol=1e-3,
    )  # fmt: skip
    book.rule(
        "components",
        "Which labels have connected components, and which counts larger ones than asked for?",
        "Labels are unlike between components only; counts end at maxSize.",
        f"{A}, Image.connectedPixelCount",
    )
    stripes = pattern().lt(4).selfMask().reproject(projection())
    book.pixels(
        "components-count", "pixel counts of components, at most 4",
        stripes.connectedPixelCount(4, True).addBands(
            stripes.connectedPixelCount(4, False).rename("four")).unmask(-1),
        grid(10, 10),
    )  # fmt: skip
    book.pixels(
        "components-labels", "labels of components of at most 16 pixels",
        stripes.connectedComponents(ee.Kernel.plus(1), 16).select("labels").unmask(-1),
        grid(10, 10), kind="partition",
    )  # fmt: skip


def _terrain(book: Book) -> None:
    book.rule(
        "terrain-differences",
        "Which differences do slope and aspect take, what faces flat ground, and which length "
        "has a pixel in degrees?",
        "Central differences of four neighbours over the output's pixels, whose sizes in degrees "
        "are arcs of the WGS84 ellipsoid; flat ground faces 0; the edge is masked.",
        f"{A}, Terrain.slope: 'the 4-connected neighbors'",
    )
    x, y = _columns()
    hill = x.multiply(x).multiply(0.7).add(y.multiply(y).multiply(0.4)).add(x.multiply(y))
    hill = hill.rename("elevation").reproject(projection())
    terrain = ee.Image.cat(
        [
            ee.Terrain.slope(hill), ee.Terrain.aspect(hill), hill.gradient(),
            ee.Terrain.slope(hill.updateMask(_spot(3, 3).Not())).unmask(-1).rename("holes"),
            ee.Terrain.hillshade(hill, 300, 40),
        ]
    )  # fmt: skip
    book.pixels(
        "terrain-curved", "slope, aspect, gradient and light on a curved surface, and a hole",
        terrain, grid(6, 6), kind="pixels", atol=1e-3,
    )  # fmt: skip
    place = ee.Projection(LONLAT, [0.01, 0, 15, 0, -0.01, 60])
    xy = ee.Image.pixelCoordinates(place)
    plane = xy.select("x").multiply(100).add(xy.select("y").multiply(40)).rename("elevation")
    book.pixels(
        "terrain-degrees", "a plane in degrees at 60 degrees north",
        ee.Image.cat([ee.Terrain.slope(plane.reproject(place)),
                      ee.Terrain.aspect(plane.reproject(place))]),
        grid(3, 3, 0.01, 15, 60, LONLAT), kind="pixels", atol=1e-3,
    )  # fmt: skip
    flat = ee.Image(5.0).rename("elevation").reproject(projection())
    aspect = ee.Terrain.aspect(flat)
    book.pixels(
        "terrain-flat", "aspect of flat ground and its mask",
        aspect.unmask(-1).addBands(aspect.mask().rename("mask")), grid(2, 2),
    )  # fmt: skip
    book.rule(
        "hill-shadow",
        "Which pixels lie in the shadow of a wall?",
        "Those whose line to the sun meets higher ground within the neighbourhood.",
        f"{A}, Terrain.hillShadow",
    )
    wall = _spot(8, 6).multiply(60).rename("elevation")
    book.pixels(
        "hill-shadow", "a needle of 60 m, sun at 90 degrees, zenith 60",
        ee.Terrain.hillShadow(wall, 90, 60, 20), grid(13, 13),
    )  # fmt: skip


def _pictures(book: Book) -> None:
    book.rule(
        "visualize",
        "How are values stretched to bytes and palettes: rounded, or cut off?",
        "Multiplied by 256 and cut off, at most 255; palettes are interpolated linearly.",
        f"{A}, Image.visualize",
    )
    x, _ = _columns()
    book.pixels(
        "visualize-stretch", "a ramp, stretched, with gamma, and by palette",
        ee.Image.cat([
            x.visualize(min=0, max=16), x.visualize(min=0, max=16, gamma=1.5),
            x.visualize(min=0, max=16, palette=["000000", "ff8000", "ffffff"]),
        ]),
        grid(16, 1),
    )  # fmt: skip


def _limits(book: Book) -> None:
    book.rule(
        "size-limits",
        "In which words is a request refused that is too large?",
        "48 MiB an answer, 32,768 pixels a side; what needs a whole region at once has limits of "
        "its own; in the words that forum answers quote.",
        "reference/rest/v1/projects.image/computePixels names the limits, not the words",
    )
    wide = grid(40_000, 1)
    book.pixels("limit-side", "40,000 pixels of a side", ee.Image(1), wide, kind="error")
    large = grid(9_000, 9_000)
    book.pixels("limit-bytes", "648 MB in one answer", ee.Image(1).toDouble(), large, kind="error")


def _textures(book: Book) -> None:
    book.rule(
        "textures",
        "Over which neighbours, and with which logarithms, are textures and entropies taken?",
        "Over the window and its four directions, symmetric; natural logarithms for textures, "
        "bits for entropies.",
        f"{A}, Image.glcmTexture, Image.entropy",
    )
    grey = pattern().toByte()
    some = grey.glcmTexture(1).select(["v_asm", "v_contrast", "v_corr", "v_ent", "v_idm", "v_savg"])
    book.pixels(
        "textures", "textures and entropy of a pattern",
        some.addBands(grey.toInt().entropy(ee.Kernel.square(1)).rename("entropy")),
        grid(5, 5), kind="pixels", rtol=1e-4,
    )  # fmt: skip


def _spectra(book: Book) -> None:
    book.rule(
        "spectra",
        "Which spectrum do spectral erosion and dilation take, and what is the spectral gradient?",
        "That of the least and the greatest summed distance; the distance between the two.",
        f"{A}, Image.spectralErosion, Image.spectralGradient",
    )
    bands = ee.Image.cat([pattern(), pattern().add(3).mod(7), pattern().multiply(5).mod(9)])
    bands = bands.rename(["a", "b", "c"])
    book.pixels(
        "spectra", "erosion, dilation and gradient of three bands",
        bands.spectralErosion().rename(["ea", "eb", "ec"]).addBands(
            bands.spectralDilation().rename(["da", "db", "dc"])).addBands(
            bands.spectralGradient().rename("gradient")),
        grid(5, 5), kind="pixels", rtol=1e-4,
    )  # fmt: skip
    book.rule(
        "edges",
        "Which differences and thresholds has the Canny detector, and where does zeroCrossing "
        "mark the change of sign?",
        "Central differences and one threshold.",
        f"{A}, CannyEdgeDetector, Image.zeroCrossing",
    )
    x, y = _columns()
    step = x.gt(4).multiply(10).add(y.gt(5).multiply(4)).toFloat().reproject(projection())
    book.pixels(
        "edges", "a step and a corner, smoothed by 1 pixel",
        ee.Algorithms.CannyEdgeDetector(step, 0.5, 1).rename("canny").addBands(
            step.subtract(5).zeroCrossing().rename("crossing")),
        grid(10, 10), kind="pixels", atol=1e-3,
    )  # fmt: skip


def _random(book: Book) -> None:
    book.rule(
        "random-images",
        "Which numbers has a random image, and do they belong to the place or to the grid?",
        "Repeatable by seed and by place on the grid; equal in distribution only.",
        f"{A}, Image.random",
    )
    uniform = {"kind": "spread", "low": 0, "high": 1, "mean": 0.5, "tolerance": 0.06}
    book.pixels("random-uniform", "seed 0", ee.Image.random(0), grid(24, 24), **uniform)
    book.pixels(
        "random-finer", "the same place on a finer grid",
        ee.Image.random(0), grid(24, 24, 5), **uniform,
    )  # fmt: skip


def _stored(book: Book) -> None:
    book.rule(
        "pyramids",
        "Which level of the pyramid is read at which scale, what is described of a stored image, "
        "and what does resample read at the edge of two levels?",
        "The level of the closest scale not above the requested one, by nominal scales, then the "
        "nearest pixel; levels are means of 2 x 2 pixels.",
        "guides/scale",
    )
    step = 1 / 3600
    # A corner that is a multiple of 64 pixels from the corner of the stored image.
    west, north = 15 + 16 * step, 46 + 16 * step
    name = "USGS/SRTMGL1_003"
    column = round((west + 180) * 3600)
    row = round((60 - north) * 3600)
    west, north = -180 + (column // 64) * 64 * step, 60 - (row // 64) * 64 * step
    stored = ee.Image(name)
    book.assets[name] = {
        "request": "stored-native", "band": "elevation", "crs": LONLAT,
        "transform": [step, 0, west, 0, -step, north], "pyramiding": "MEAN",
    }  # fmt: skip
    book.pixels(
        "stored-native", "the stored pixels, of which the others are made",
        stored, grid(64, 64, step, west, north, LONLAT), kind="recorded",
    )  # fmt: skip
    for factor in (1.5, 2, 3, 4):
        size = int(48 // factor)
        book.pixels(
            f"stored-at-{factor:g}", f"{factor:g} times the stored pixel",
            stored, grid(size, size, factor * step, west, north, LONLAT),
        )  # fmt: skip
    book.pixels(
        "stored-bilinear", "bilinear at 1.5 times the stored pixel",
        stored.resample("bilinear"),
        grid(20, 20, 1.5 * step, west + 4 * step, north - 4 * step, LONLAT),
        kind="pixels", atol=0.01,
    )  # fmt: skip


def write(book: Book) -> None:
    """Write down the requests of this module."""
    _masks(book)
    _mask_values(book)
    _grids(book)
    _neighbourhoods(book)
    _terrain(book)
    _limits(book)
    _textures(book)
    _spectra(book)
    _pictures(book)
    _random(book)
    _stored(book)
