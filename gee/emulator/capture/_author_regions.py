"""Requests about statistics, samples, learners and vectors."""

from __future__ import annotations

import ee

from ._author import UTM, Book, pattern, projection, square

__all__ = ["write"]

A = "algorithms.json of earthengine-api"


def _regions(book: Book) -> None:
    book.rule(
        "region-origin",
        "Where is the corner of the grid when reduceRegion is given a scale without crs?",
        "At the corner of the image's own grid, with square pixels of the scale.",
        "guides/reducers_reduce_region is silent on the corner",
    )
    places = ee.Image.pixelLonLat().setDefaultProjection(projection())
    lists = ee.Reducer.toList().repeat(2)
    given = {"scale": {}, "scale and crs": {"crs": UTM}, "degrees": {"crs": "EPSG:4326"}}
    book.value(
        "region-centres", "centres of the pixels of a region at 25 m, with and without a crs",
        ee.Dictionary({
            key: places.reduceRegion(lists, square(1, 9, 9, 1), scale=25, **more)
            for key, more in given.items()
        }),
        kind="equal", rtol=1e-9,
    )  # fmt: skip
    book.rule(
        "region-weights",
        "How is a pixel weighted that the region covers in part, and which are left out?",
        "By the covered fraction or the mask, whichever is less; below 0.5 % left out; "
        "unweighted: the centre decides.",
        "guides/reducers_weighting",
    )
    one = ee.Image(1).reproject(projection())
    parts = {
        "quarter": square(2, 2.5, 2.5, 2), "thin": square(2, 4, 2.004, 2),
        "thicker": square(2, 4, 2.01, 2), "thick": square(2, 4, 2.1, 2),
        "centre": square(2, 3, 2.5, 2), "beyond centre": square(2, 3, 2.51, 2),
        "many": square(0.3, 6.8, 5.6, 1.1),
    }  # fmt: skip
    counts = ee.Reducer.sum().combine(ee.Reducer.count(), "", True)
    counts = counts.combine(ee.Reducer.sum().unweighted(), "plain_", True)
    book.value(
        "region-fractions",
        "sums and counts over parts of pixels",
        ee.Dictionary({key: one.reduceRegion(counts, part) for key, part in parts.items()}),
        kind="equal", rtol=2e-3,
    )  # fmt: skip
    image = pattern().updateMask(pattern().gt(2).multiply(0.5).add(0.25))
    book.value(
        "region-weighted",
        "statistics with partial masks",
        image.reduceRegion(
            ee.Reducer.mean().combine(ee.Reducer.median(), "", True)
            .combine(ee.Reducer.stdDev(), "", True).combine(ee.Reducer.sampleVariance(), "", True)
            .combine(ee.Reducer.percentile([10, 90]), "", True)
            .combine(ee.Reducer.mode(), "", True),
            square(0.3, 6.8, 5.6, 1.1)),
        kind="equal", rtol=1e-4,
    )  # fmt: skip


def _statistics(book: Book) -> None:
    book.rule(
        "percentiles",
        "Between which values do percentiles interpolate, and from how many on do histograms "
        "stand in for values?",
        "Linearly between values; no histogram stands in for many values.",
        f"{A}, Reducer.percentile: maxBuckets",
    )
    few = ee.List([1, 2, 4, 8, 16])
    places = ee.Reducer.percentile([0, 10, 25, 50, 75, 90, 100])
    made = {
        "five": few.reduce(places), "two": ee.List([1, 2]).reduce(places),
        "median of two": ee.List([1, 2]).reduce(ee.Reducer.median()),
        "median of four": ee.List([1, 2, 8, 9]).reduce(ee.Reducer.median()),
        "mode tied": ee.List([3, 1, 1, 3]).reduce(ee.Reducer.mode()),
        "mode of many": ee.List([5, 5, 1, 2, 2, 2]).reduce(ee.Reducer.mode()),
        "skew": few.reduce(ee.Reducer.skew()), "kurtosis": few.reduce(ee.Reducer.kurtosis()),
        "variance": few.reduce(ee.Reducer.variance()),
        "interval": few.reduce(ee.Reducer.intervalMean(20, 80)),
        "hundreds": ee.List.sequence(1, 1000).map(lambda n: ee.Number(n).pow(2)).reduce(places),
    }  # fmt: skip
    book.value("percentiles-of-lists", "percentiles, medians, modes", ee.Dictionary(made),
               kind="equal", rtol=1e-9)  # fmt: skip
    stack = ee.ImageCollection([ee.Image(n) for n in (1, 2, 4, 8)])
    point = ee.Geometry.Point([15, 45])
    book.value(
        "percentiles-of-images",
        "percentiles, median and mode by pixel",
        stack.reduce(places.combine(ee.Reducer.median(), "", True)
                     .combine(ee.Reducer.mode(), "", True))
        .reduceRegion(ee.Reducer.first(), point, 10),
        kind="equal", rtol=1e-6,
    )  # fmt: skip
    book.value(
        "percentiles-of-many",
        "percentiles of ten thousand pixels",
        ee.Image.pixelLonLat().reduceRegion(
            ee.Reducer.percentile([5, 50, 95]), square(0, 100, 100, 0), 10, UTM),
        kind="equal", rtol=1e-9,
    )  # fmt: skip
    book.rule(
        "histograms",
        "Which buckets do histograms choose, and how are keys of frequencies written?",
        "histogram: powers of two that hold the values; frequencies: whole values without a "
        "decimal point.",
        f"{A}, Reducer.histogram, Reducer.autoHistogram",
    )
    book.value(
        "histograms-of-lists",
        "buckets of five values",
        ee.Dictionary(
            {
                "histogram": few.reduce(ee.Reducer.histogram(4)),
                "fixed": few.reduce(ee.Reducer.fixedHistogram(0, 16, 4)),
                "frequency": ee.List([1, 1, 2.5, -3]).reduce(ee.Reducer.frequencyHistogram()),
            }
        ),
    )  # fmt: skip
    book.value("histograms-auto", "buckets of autoHistogram",
               few.reduce(ee.Reducer.autoHistogram(4)))  # fmt: skip
    book.rule(
        "regressions",
        "Which estimators, and which p-values, have regressions and correlations of ranks?",
        "The textbook's: least squares, Sen's median of slopes, Kendall's tau-b; p-values of "
        "two sides.",
        f"{A}, Reducer.sensSlope, Reducer.kendallsCorrelation",
    )
    pairs = ee.List([[1, 2], [2, 3], [3, 5], [4, 4], [5, 9], [6, 8]])
    book.value(
        "regressions",
        "slopes, offsets and correlations of six pairs",
        ee.Dictionary(
            {
                "fit": pairs.reduce(ee.Reducer.linearFit()),
                "sen": pairs.reduce(ee.Reducer.sensSlope()),
                "pearson": pairs.reduce(ee.Reducer.pearsonsCorrelation()),
                "spearman": pairs.reduce(ee.Reducer.spearmansCorrelation()),
                "kendall": pairs.reduce(ee.Reducer.kendallsCorrelation(2)),
            }
        ),
        kind="equal", rtol=1e-6,
    )  # fmt: skip
    book.rule(
        "quality-ties",
        "Which image of a quality mosaic wins where qualities are equal?",
        "The first.",
        "guides/ic_composite_mosaic",
    )
    tied = ee.ImageCollection([ee.Image([n, 5]).rename(["n", "q"]) for n in (1, 2, 3)])
    book.value("quality-mosaic", "three images of one quality",
               tied.qualityMosaic("q").reduceRegion(ee.Reducer.first(), point, 10))  # fmt: skip


def _vectors(book: Book) -> None:
    book.rule(
        "vectors",
        "In which order and with which rings are regions made into polygons?",
        "By rows from the top; rings run along pixel edges.",
        f"{A}, Image.reduceToVectors",
    )
    classes = pattern().lt(5).toByte().reproject(projection())
    found = classes.reduceToVectors(
        geometry=square(0, 6, 6, 0), scale=10, crs=projection(), eightConnected=False
    )
    book.value(
        "vectors-order", "labels, counts and areas in their order",
        ee.List([found.aggregate_array("label"), found.aggregate_array("count"),
                 found.map(lambda f: f.set("area", f.geometry().area(1)))
                 .aggregate_array("area")]),
        kind="equal", rtol=1e-4,
    )  # fmt: skip
    book.rule(
        "geometry-measures",
        "Are areas and lengths those of the ellipsoid, and how fine is a buffer?",
        "Of the WGS84 ellipsoid; a buffer has as many corners as its maximum error asks for.",
        "guides/geometric_operations",
    )
    box = ee.Geometry.Rectangle([15, 60, 16, 61])
    line = ee.Geometry.LineString([[15, 60], [16, 61]])
    point = ee.Geometry.Point([15, 60])
    book.value(
        "geometry-measures",
        "areas, lengths, distances",
        ee.Dictionary(
            {
                "area": box.area(1), "planar": ee.Geometry.Rectangle(
                    [15, 60, 16, 61], None, False).area(1),
                "perimeter": box.perimeter(1), "length": line.length(),
                "distance": point.distance(ee.Geometry.Point([16, 61])),
                "buffer": point.buffer(1000).area(1), "coarse": point.buffer(1000, 100).area(1),
                "corners": ee.List(point.buffer(1000).coordinates().get(0)).size(),
                "simplified": box.simplify(1000).area(1),
                "hull": line.buffer(10).convexHull().area(1),
                "centroid": box.centroid(1).coordinates(),
            }
        ),
        kind="equal", rtol=1e-6,
    )  # fmt: skip
    book.value(
        "table-distance",
        "distance of pixels to a feature: sphere or ellipsoid",
        ee.FeatureCollection([ee.Feature(point)]).distance(200_000).reduceRegion(
            ee.Reducer.first(), ee.Geometry.Point([16, 60.5]), 10),
        kind="equal", rtol=1e-6,
    )  # fmt: skip


def _samples(book: Book) -> None:
    book.rule(
        "samples",
        "In which order come samples, and which pixels are drawn?",
        "All pixels by rows; a part of them, and as many of each class as asked for, by a hash "
        "of place and seed: equal in distribution only.",
        f"{A}, Image.sample, Image.stratifiedSample",
    )
    image = pattern()
    book.value(
        "sample-order", "all pixels of a region in their order",
        image.sample(region=square(0, 4, 4, 0), geometries=True, projection=projection())
        .aggregate_array("v"),
    )  # fmt: skip
    book.value(
        "sample-drawn", "20 of 400 pixels, seed 0",
        image.sample(region=square(0, 20, 20, 0), numPixels=20, projection=projection())
        .aggregate_array("v"), kind="report",
    )  # fmt: skip
    classes = image.gt(4).add(image.gt(8)).toByte().rename("c").reproject(projection())
    book.value(
        "sample-stratified", "5 of each class: classes in their order",
        classes.stratifiedSample(5, "c", square(0, 20, 20, 0), projection=projection())
        .aggregate_array("c"),
    )  # fmt: skip
    book.rule(
        "random-columns",
        "Which hash makes the numbers of randomColumn, shuffle and randomPoints?",
        "Its own; repeatable by seed and index, equal in distribution only.",
        f"{A}, Collection.randomColumn",
    )
    table = ee.FeatureCollection(ee.List.sequence(1, 200).map(lambda n: ee.Feature(None, {"n": n})))
    book.value(
        "random-column", "200 features, seed 0",
        table.randomColumn("r", 0).aggregate_array("r"),
        kind="spread", low=0, high=1, mean=0.5, tolerance=0.08,
    )  # fmt: skip
    book.value(
        "random-shuffle", "a shuffled list, seed 4",
        ee.List.sequence(0, 19).shuffle(4),
        kind="spread", low=0, high=19, mean=9.5, tolerance=1e-9,
    )  # fmt: skip
    book.value(
        "random-points", "20 points in a square, seed 5",
        ee.FeatureCollection.randomPoints(ee.Geometry.Rectangle([0, 0, 1, 1]), 20, 5)
        .geometry().coordinates(),
        kind="spread", low=0, high=1, mean=0.5, tolerance=0.25,
    )  # fmt: skip


def _interpolation(book: Book) -> None:
    book.rule(
        "interpolation",
        "How do the mean and the range weigh in inverseDistance, and what do kriging's shapes "
        "reach at their range?",
        "The mean weighs like a point at range / gamma; kriging is ordinary, its exponential and "
        "Gaussian shapes are at 95 % of their way at the range.",
        f"{A}, FeatureCollection.inverseDistance, FeatureCollection.kriging",
    )
    known = [(0, 0, 1), (4, 0, 5), (0, 4, 3), (5, 5, 9)]
    table = ee.FeatureCollection(
        [ee.Feature(square(c, r, c, r).centroid(1), {"v": v}) for c, r, v in known]
    )
    point = square(2, 2, 2, 2).centroid(1)
    weighted = table.inverseDistance(
        range=100, propertyName="v", mean=4, stdDev=3, gamma=0.5, reducer=ee.Reducer.mean()
    )
    kriged = table.kriging(
        propertyName="v",
        shape="exponential",
        range=100,
        sill=4,
        nugget=0.1,
        maxDistance=1000,
        reducer=ee.Reducer.mean(),
    )
    book.value(
        "interpolation", "inverse distances and kriging between four points",
        ee.List([weighted.reduceRegion(ee.Reducer.first(), point, 10),
                 kriged.reduceRegion(ee.Reducer.first(), point, 10)]),
        kind="equal", rtol=1e-3,
    )  # fmt: skip


def _learners(book: Book) -> None:
    book.rule(
        "trees",
        "Where do trees split between two values, and which of equally good splits do they take?",
        "scikit-learn's: halfway between the values; the trees are alike, not identical.",
        f"{A}, Classifier.smileCart",
    )
    rows = [(1, 5, 0), (2, 4, 0), (3, 8, 1), (4, 1, 1), (6, 3, 0), (7, 9, 1), (9, 2, 2), (12, 7, 2)]
    table = ee.FeatureCollection([ee.Feature(None, {"a": a, "b": b, "c": c}) for a, b, c in rows])
    wanted = ee.FeatureCollection(
        [ee.Feature(None, {"a": a, "b": b}) for a in (1.4, 2.6, 5, 6.5, 8, 10.4) for b in (2, 6)]
    )
    cart = ee.Classifier.smileCart().train(table, "c", ["a", "b"])
    book.value("cart-explain", "the tree of eight samples", cart.explain(), kind="report")
    book.value("cart-classes", "classes between the samples",
               wanted.classify(cart).aggregate_array("classification"), kind="report")  # fmt: skip
    forest = ee.Classifier.smileRandomForest(5).train(table, "c", ["a", "b"])
    near = ee.Classifier.minimumDistance("mahalanobis").train(table, "c", ["a", "b"])
    book.value(
        "other-classes", "a forest's votes, classes by Mahalanobis distance",
        ee.List([
            wanted.classify(forest.setOutputMode("MULTIPROBABILITY"))
            .aggregate_array("classification"),
            wanted.classify(near).aggregate_array("classification"),
        ]),
        kind="report",
    )  # fmt: skip
    truth = cart.confusionMatrix()
    book.value(
        "matrix-measures", "accuracies and their axes",
        ee.List([truth.array(), truth.accuracy(), truth.kappa(), truth.producersAccuracy(),
                 truth.consumersAccuracy(), truth.fscore()]),
    )  # fmt: skip
    clusters = ee.Clusterer.wekaKMeans(2).train(table, ["a", "b"])
    book.value("kmeans-clusters", "labels of two clusters",
               table.cluster(clusters).aggregate_array("cluster"), kind="report")  # fmt: skip
    book.rule(
        "signs",
        "Which sign and order have singular and eigenvectors?",
        "LAPACK's order; the sign is not fixed.",
        f"{A}, Array.matrixSingularValueDecomposition",
    )
    matrix = ee.Array([[2, 1, 0], [1, 3, 1], [0, 1, 4]])
    book.value("matrix-eigen", "eigenvalues and vectors of a symmetric matrix",
               matrix.eigen(), kind="report", rtol=1e-9)  # fmt: skip


def write(book: Book) -> None:
    """Write down the requests of this module."""
    _regions(book)
    _statistics(book)
    _vectors(book)
    _samples(book)
    _interpolation(book)
    _learners(book)
