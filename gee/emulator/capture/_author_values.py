"""Requests about numbers, types, descriptions and words: nothing here has pixels."""

from __future__ import annotations

from typing import Any

import ee

from ._author import UTM, Book, pattern, projection, square

__all__ = ["write"]

A = "algorithms.json of earthengine-api"


def _type(image: Any) -> Any:
    """Return the type of the only band."""
    return image.bandTypes().values().get(0)


def _types(book: Book) -> None:
    book.rule(
        "types-of-two",
        "Which type and range has the result of two images: exact interval arithmetic, or the "
        "union of the input types?",
        "Interval arithmetic for add, subtract and multiply; a quotient of integers is float, "
        "double beyond 24 bits.",
        f"{A}, Image.add: 'the union of the input types'; guides/image_math",
    )
    byte, short = ee.Image(3).toByte(), ee.Image(-4).toInt16()
    long, real = ee.Image(5).toInt64(), ee.Image(1.5).toFloat()
    two = (
        "add", "subtract", "multiply", "divide", "mod", "pow", "max", "min", "And", "eq",
        "bitwiseAnd", "leftShift", "hypot", "atan2", "first",
    )  # fmt: skip
    made = {op: _type(getattr(byte, op)(short)) for op in two}
    made |= {f"{op} of bytes": _type(getattr(byte, op)(byte)) for op in ("add", "divide", "pow")}
    book.value("types-short", "types of byte with int16, and with byte", ee.Dictionary(made))
    made = {op: _type(getattr(long, op)(real)) for op in ("add", "divide", "max", "where", "blend",
                                                          "unmask", "pow")
            if op != "where"}  # fmt: skip
    made["where"] = _type(byte.where(byte.gt(1), short))
    made["constants"] = _type(ee.Image(3).multiply(ee.Image(-4)))
    book.value("types-mixed", "types of long with float, of where and blend", ee.Dictionary(made))

    book.rule(
        "types-of-one",
        "Which type and range has the result of a function of one image?",
        "double for integers, the precision of the input for float; abs, casts and comparisons "
        "follow the interval.",
        f"{A} names no types",
    )
    one = ("abs", "sqrt", "sin", "exp", "log", "round", "floor", "Not", "signum", "bitwiseNot",
           "toUint16", "cbrt", "digamma", "float")  # fmt: skip
    made = {op: _type(getattr(short, op)()) for op in one}
    made |= {f"{op} of float": _type(getattr(real, op)()) for op in ("sqrt", "round", "Not")}
    book.value("types-of-functions", "types of functions of int16 and float", ee.Dictionary(made))
    constants = {
        "int": ee.Image(3), "double": ee.Image(1.5), "negative": ee.Image(-4),
        "large": ee.Image(3e9), "computed int": ee.Image.constant(ee.Number(3).add(1)),
        "computed": ee.Image.constant(ee.Number(1).divide(3)), "random": ee.Image.random(),
    }  # fmt: skip
    constants = {key: _type(image) for key, image in constants.items()}
    constants["lonlat"] = _type(ee.Image.pixelLonLat().select(0))
    constants["area"] = _type(ee.Image.pixelArea())
    book.value("types-constants", "types of images out of nothing", ee.Dictionary(constants))

    book.rule(
        "types-of-composites",
        "Which type and range has a composite or a statistic of a collection?",
        "The union of the inputs for mosaic, min, max, mode and first; double for mean, median, "
        "percentiles and deviations of integers.",
        f"{A}, reduce.median names no types",
    )
    pair = ee.ImageCollection([byte, byte])
    made = {
        op: _type(getattr(pair, op)())
        for op in ("mean", "median", "sum", "min", "max", "mode", "count", "mosaic", "first",
                   "product", "And")
    }  # fmt: skip
    for name, reducer in (("stdDev", ee.Reducer.stdDev()), ("p", ee.Reducer.percentile([50])),
                          ("countEvery", ee.Reducer.countEvery())):  # fmt: skip
        made[name] = _type(pair.reduce(reducer))
    mixed = ee.ImageCollection([byte, short])
    made |= {f"{op} of two types": _type(getattr(mixed, op)()) for op in ("mosaic", "mean", "max")}
    book.value("types-reduced", "types of statistics of byte images", ee.Dictionary(made))


def _names(book: Book) -> None:
    book.rule(
        "band-pairing",
        "When are bands of two images paired by name, and which names has the result?",
        "By name where the sets of names are equal, else by position; by name only where the "
        "numbers of bands differ. The names are those of the first image, or of the one with "
        "more bands.",
        f"{A}, Image.add",
    )
    first = ee.Image([1, 2]).rename(["a", "b"])
    cases = {
        "same names, other order": first.add(ee.Image([10, 20]).rename(["b", "a"])),
        "other names": first.add(ee.Image([10, 20]).rename(["c", "d"])),
        "one name shared": first.add(ee.Image([10, 20]).rename(["b", "c"])),
        "one band left": ee.Image(5).rename("z").add(first),
        "one band right": first.add(ee.Image(5).rename("z")),
    }
    point = ee.Geometry.Point([15, 45])
    book.value(
        "pairing-values",
        "values and names after adding two bands to two",
        ee.Dictionary(
            {key: image.reduceRegion(ee.Reducer.first(), point, 10) for key, image in cases.items()}
        ),
    )
    book.value(
        "pairing-none",
        "two bands with three of other names: refused, or without bands",
        first.add(ee.Image([10, 20, 30]).rename(["c", "d", "e"])).bandNames(),
    )
    book.rule(
        "properties-kept",
        "Which functions keep the properties of an image?",
        "select, rename, masks, clip, casts, remap, reduce, focal functions, reproject, addBands, "
        "blend and slice keep them; arithmetic, expressions and composites drop them.",
        "common usage; guides/image_math names none",
    )
    image = ee.Image([1, 2]).rename(["a", "b"]).set({"p": 1, "system:time_start": 86400000})
    kept = {
        "select": image.select("a"), "rename": image.rename(["c", "d"]), "add": image.add(1),
        "updateMask": image.updateMask(1), "abs": image.abs(), "toByte": image.toByte(),
        "mask": image.mask(), "setMask": image.mask(ee.Image(1)), "unmask": image.unmask(0),
        "clip": image.clip(ee.Geometry.Point([15, 45]).buffer(100)),
        "addBands": image.addBands(ee.Image(1)), "nd": image.normalizedDifference(["a", "b"]),
        "expression": image.expression("b(0) + b(1)"), "reduce": image.reduce(ee.Reducer.sum()),
        "reproject": image.reproject(UTM, None, 10), "resample": image.resample("bilinear"),
        "setDefaultProjection": image.setDefaultProjection(UTM, None, 10),
        "where": image.where(1, 2), "gt": image.gt(1), "remap": image.select(0).remap([1], [2]),
        "focal": image.focalMean(1), "cast": image.cast({"a": "float"}),
        "visualize": image.visualize(bands=["a"], min=0, max=2), "blend": image.blend(image),
        "slice": image.slice(0, 1), "toArray": image.toArray(), "clamp": image.clamp(0, 1),
        "cat": ee.Image.cat([image, image]), "regexpRename": image.regexpRename("a", "x"),
        "mosaic": ee.ImageCollection([image]).mosaic(),
        "qualityMosaic": ee.ImageCollection([image]).qualityMosaic("a"),
    }  # fmt: skip
    names = {key: made.propertyNames().sort() for key, made in kept.items()}
    book.value("properties-by-function", "names of the properties after each", ee.Dictionary(names))


def _json(book: Book) -> None:
    book.rule(
        "json-not-finite",
        "How are NaN and infinities written in JSON, and where do they arise at all?",
        "Division by zero gives 0 for numbers as for images; other functions follow IEEE "
        'arithmetic; NaN and infinities are written as the strings "NaN", "Infinity" and '
        '"-Infinity".',
        "reference/rest/v1/Value is silent",
    )
    book.value("json-infinity", "1/0 of numbers", ee.Number(1).divide(0))
    book.value("json-nan", "0/0 of numbers", ee.Number(0).divide(0))
    book.value(
        "json-list",
        "square root of -1 and logarithm of 0 in a list",
        ee.List([ee.Number(-1).sqrt(), ee.Number(0).log(), 1]),
    )
    point = ee.Geometry.Point([15, 45])
    odd = ee.Image.cat(
        [
            ee.Image(-1).sqrt(), ee.Image(0).log(), ee.Image(0).divide(0), ee.Image(2).acos(),
            ee.Image(-8).pow(1 / 3), ee.Image(0).atan2(0), ee.Image(5).mod(0),
            ee.Image(-7).mod(3), ee.Image(0).pow(0),
        ]
    ).rename(["sqrt", "log", "zero", "acos", "root", "atan2", "mod0", "mod", "pow"])  # fmt: skip
    book.value(
        "pixels-not-finite",
        "what images make of arguments outside of the domain: NaN, 0 or masked",
        odd.reduceRegion(ee.Reducer.first(), point, 10),
    )
    book.rule(
        "json-numbers",
        "Which whole numbers are written as integers, and from where on as doubles?",
        "What an integer operation gives is an integer, and wraps around beyond 64 bits; powers "
        "are doubles; doubles that are whole numbers below 2^53 are written as integers.",
        "reference/rest/v1/Value",
    )
    book.value(
        "json-large-numbers",
        "numbers around 2^53 and beyond",
        ee.Dictionary(
            {
                "2^53+1": ee.Number(2).pow(53).add(1), "1e20": ee.Number(1e20),
                "half": ee.Number(4).divide(2), "third": ee.Number(1).divide(3),
                "product": ee.Number(4_000_000_000).multiply(4_000_000_000),
                "long": ee.Number(2).pow(40).long(), "float": ee.Number(0.1).float(),
            }
        ),
    )  # fmt: skip
    book.rule(
        "casts",
        "What do casts make of values outside of the type: clamp, or wrap around?",
        "They are clamped to the type's range; fractions are cut off.",
        f"{A}, Image.toByte is silent",
    )
    values = ee.Image([300.7, -200.3, 3e9, 2.5, -2.5]).rename(["a", "b", "c", "d", "e"])
    book.value(
        "casts-of-images",
        "casts of values that do not fit",
        ee.Dictionary(
            {
                cast: getattr(values, cast)().reduceRegion(ee.Reducer.first(), point, 10)
                for cast in ("toByte", "toInt8", "toUint16", "toInt16", "toInt32", "round")
            }
        ),
    )


def _descriptions(book: Book) -> None:
    book.rule(
        "getinfo-image",
        "Which of dimensions, origin, crs and crs_transform are described for which image?",
        "Constants have crs and a transform of one degree; a clipped image keeps the grid of its "
        "input and gets a footprint. Dimensions are those of stored images, with 'origin' where "
        "a band does not begin at its grid's corner.",
        "not documented",
    )
    book.value(
        "info-images",
        "constants, after reproject, after clip, with a default projection, a composite",
        ee.List(
            [
                ee.Image([1, 2.5]), pattern(), pattern().clip(square(2, 5, 7, 1)),
                ee.Image.pixelLonLat().setDefaultProjection(projection()),
                ee.ImageCollection([pattern(), pattern(30)]).mean(),
            ]
        ),
        kind="equal", rtol=1e-9,
    )  # fmt: skip
    book.rule(
        "getinfo-values",
        "In which form are values other than numbers described?",
        "As the client's own tests and guides show them; members that none shows are left out.",
        "not documented as a whole",
    )
    book.value(
        "info-values",
        "dates, ranges, types, projections, margins",
        ee.List(
            [
                ee.Date(0), ee.DateRange(0, 86400000), ee.PixelType.float(),
                ee.PixelType("int", 0, 10, 2), ee.Projection(UTM), projection(),
                ee.Projection("EPSG:3857"), ee.Array([[1, 2], [3, 4]]), ee.ErrorMargin(3),
            ]
        ),
    )  # fmt: skip
    ring = [[15, 45], [16, 45], [16, 46], [15, 45]]
    book.value(
        "info-geometries",
        "geometries: geodesic, evenOdd and crs members",
        ee.List(
            [
                ee.Geometry.Point([15, 45]), ee.Geometry.Polygon([ring]),
                ee.Geometry.Polygon([ring], None, False), ee.Geometry.Rectangle([15, 45, 16, 46]),
                ee.Geometry.LineString([[15, 45], [16, 46]]), square(0, 4, 4, 0),
                ee.Geometry.MultiPoint([[15, 45], [16, 46]]), ee.Geometry.Polygon([ring]).bounds(),
                ee.Geometry.Polygon([ring]).centroid(1),
            ]
        ),
        kind="equal", rtol=1e-9,
    )  # fmt: skip
    book.value(
        "info-features",
        "an empty collection, features without geometry, a null property",
        ee.List(
            [
                ee.FeatureCollection([]), ee.Feature(None, {"a": 1}),
                ee.FeatureCollection([ee.Feature(ee.Geometry.Point([15, 45]), {"b": "x"})]),
                ee.FeatureCollection([ee.Feature(None, {"a": 1})]).map(lambda f: f.set("c", None)),
            ]
        ),
    )  # fmt: skip
    book.value("info-kernel", "description of a kernel", ee.Kernel.gaussian(3))
    book.rule(
        "at-scale",
        "Which transform has a projection after atScale, scale and translate?",
        "atScale keeps the corner and gives square pixels of the scale; degrees by the length of "
        "a degree at the equator.",
        f"{A}, Projection.atScale",
    )
    book.value(
        "projections-scaled",
        "transforms and nominal scales",
        ee.List(
            [
                ee.Projection(UTM).atScale(30), ee.Projection("EPSG:4326").atScale(30),
                projection().atScale(30), projection().scale(2, 3), projection().translate(1, 2),
                ee.Projection("EPSG:4326").nominalScale(), projection().nominalScale(),
                ee.Projection("EPSG:3857").nominalScale(), projection().transform(),
            ]
        ),
        kind="equal", rtol=1e-9,
    )  # fmt: skip
    book.rule(
        "projection-of-pairs",
        "Which default projection has the result of two images, or of a collection?",
        "That of the first image; of a constant with an image, that of the image; of a "
        "composite EPSG:4326 at one degree.",
        "guides/projections, 'The default projection'",
    )
    one, other = pattern(), pattern(30)
    book.value(
        "projections-of-pairs",
        "projections after pairing",
        ee.List(
            [
                image.projection()
                for image in (
                    ee.Image(1).add(one), one.add(1), one.add(other), other.add(one),
                    one.unmask(0), one.where(1, other), ee.ImageCollection([one]).mosaic(),
                    ee.ImageCollection([one]).first(), one.focalMean(1), one.gt(other),
                )
            ]
        ),
    )  # fmt: skip


def _dates(book: Book) -> None:
    book.rule(
        "dates",
        "How are zones written in dates, and how are differences in months counted?",
        "As Joda-Time's; a fraction of a month or year is that part of the one it falls in; "
        "differences count months of 1/12 of 365.2425 days.",
        f"{A}, Date.format, Date.difference",
    )
    day = ee.Date("2020-02-29T12:34:56.789")
    book.value(
        "date-formats",
        "patterns, zones and differences",
        ee.Dictionary(
            {
                "plain": day.format(), "zone": day.format("YYYY-MM-dd HH:mm:ss.SSS Z", "CET"),
                "names": day.format("EEEE, d MMMM, w, D", "UTC"),
                "offset": day.format("ZZ z", "America/New_York"),
                "months": day.difference(ee.Date("2019-01-31"), "month"),
                "years": day.difference(ee.Date("2019-02-28"), "year"),
                "advance": day.advance(1, "year").format(),
                "fraction": day.advance(0.5, "month").format(),
                "week": day.getRange("week"), "relative": day.getRelative("day", "year"),
            }
        ),
    )  # fmt: skip


def _errors(book: Book) -> None:
    book.rule(
        "error-texts",
        "In which words are requests refused?",
        "As guides and forum answers quote them; the rest in the same manner.",
        "guides/debugging, guides/projections",
    )
    point = ee.Geometry.Point([15, 45])
    errors = {
        "band-missing": ee.Image(1).select("nonesuch"),
        "asset-missing": ee.Image("projects/earthengine-public/assets/no/such/asset"),
        "table-missing": ee.FeatureCollection("no/such/table").size(),
        "wrong-type": ee.Number.parse("abc"),
        "list-index": ee.List([1, 2]).get(5),
        "dictionary-key": ee.Dictionary({"a": 1}).get("b"),
        "bad-crs": ee.Projection("EPSG:999999").nominalScale(),
        "no-scale": ee.ImageCollection([pattern()]).mean().reduceRegion(
            ee.Reducer.mean(), point.buffer(1000)),
        "too-many-pixels": ee.Image.pixelLonLat().reduceRegion(
            ee.Reducer.mean(), ee.Geometry.Rectangle([10, 40, 20, 50]), 1),
        "too-many-inputs": pattern().reduceResolution(ee.Reducer.mean(), False, 4)
            .reproject(UTM, None, 100).reduceRegion(ee.Reducer.first(), point, 100),
        "two-projections": pattern().addBands(pattern(30)).projection(),
    }  # fmt: skip
    for name, expression in errors.items():
        book.error(f"error-{name}", name.replace("-", " "), expression)


def _texts(book: Book) -> None:
    book.rule(
        "number-texts",
        "How are numbers written as text: which digits, which rounding?",
        "As the formatter of Java that the patterns come from: halves are rounded up, and a "
        "double is written with the digits that tell it from its neighbours.",
        f"{A}, Number.format: 'a printf-style format string'",
    )
    half = ee.Number(0.125)
    book.value(
        "number-formats",
        "numbers by patterns, and without",
        ee.Dictionary(
            {
                "none": half.format(), "whole": ee.Number(3).format(), "two": half.format("%.2f"),
                "even": ee.Number(2.5).format("%.0f"), "e": ee.Number(12345.678).format("%.3e"),
                "g": ee.Number(0.00001234).format("%.3g"), "width": ee.Number(7).format("%05d"),
                "hex": ee.Number(255).format("%x"), "third": ee.Number(1).divide(3).format(),
                "large": ee.Number(1e10).format(), "small": ee.Number(1e-5).format(),
                "cut": ee.Number(2.7).format("%d"),
                "list": ee.List([1, 2.5, "a"]).join(","), "cat": ee.String("a").cat(ee.String("b")),
            }
        ),
    )  # fmt: skip


def _lists(book: Book) -> None:
    book.rule(
        "strings",
        "Which expressions do strings take, and what does split leave out?",
        "Java's expressions; empty text at the end is left out.",
        f"{A}, String.split, String.match",
    )
    text = ee.String("a,b,,c,,")
    book.value(
        "string-functions",
        "split, match, replace and slices",
        ee.Dictionary(
            {
                "split": text.split(","), "flags": ee.String("aXbxc").split("x", "i"),
                "letters": ee.String("abc").split(""), "match": text.match("(b),(,)"),
                "all": text.match("[a-c]", "g"), "replace": text.replace("(a),(b)", "$2$1"),
                "slice": text.slice(-3), "none": text.match("z"), "index": text.rindex(","),
            }
        ),
    )  # fmt: skip
    book.rule(
        "sequences",
        "Where does List.sequence end when its step is no binary fraction?",
        "Ten steps of 0.1 reach 1; a count of 1 gives the start.",
        f"{A}, List.sequence",
    )
    book.value(
        "sequences",
        "ends of sequences",
        ee.List([ee.List.sequence(0, 1, 0.1), ee.List.sequence(1, 2, 0.3),
                 ee.List.sequence(3, None, 2, 4), ee.List.sequence(5, 9, None, 3)]),
        kind="equal", rtol=1e-12,
    )  # fmt: skip
    book.rule(
        "filters-of-nothing",
        "Which filters pass a feature that lacks the property?",
        "Those that pass unless their opposite does.",
        f"{A}, Filter.equals is silent",
    )
    table = ee.FeatureCollection([ee.Feature(None, {"a": 1}), ee.Feature(None, {"b": 1})])
    filters = {
        "eq": ee.Filter.eq("a", 1), "neq": ee.Filter.neq("a", 2), "lt": ee.Filter.lt("a", 5),
        "gte": ee.Filter.gte("a", 0), "not": ee.Filter.eq("a", 1).Not(),
        "inList": ee.Filter.inList("a", [1]), "notNull": ee.Filter.notNull(["a"]),
        "text": ee.Filter.stringContains("a", "x"), "range": ee.Filter.rangeContains("a", 0, 2),
    }  # fmt: skip
    sizes = {name: table.filter(which).size() for name, which in filters.items()}
    book.value("filters-of-nothing", "how many of two features pass", ee.Dictionary(sizes))


def write(book: Book) -> None:
    """Write down the requests of this module."""
    _types(book)
    _names(book)
    _json(book)
    _descriptions(book)
    _dates(book)
    _texts(book)
    _lists(book)
    _errors(book)
