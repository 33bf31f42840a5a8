"""Land cover by a classification tree (CART) trained for each site, and how far to trust it.

As in Ganerod et al. (2024), section 3: one Sentinel-2 image of the window before with hardly a
cloud, the elevation, and the Sentinel-1 composite of the window before; a tree
(``ee.Classifier.smileCart``) trained on points in eight classes. The points come from the user,
or are drawn from a reference map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import ee

from gee.grids import crs_code
from gee.scripts import sentinel1, sentinel2, terrain
from gee.scripts.place import region, source
from gee.scripts.settled import Settled
from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = [
    "CLASSES",
    "FROM_WORLDCOVER",
    "OPTICAL",
    "Accuracy",
    "accuracy",
    "cart",
    "classified",
    "clearest_day",
    "drawn_points",
    "folds_by_block",
    "predictors",
    "sampled",
]

CLASSES = {
    1: "urban, artificial",
    2: "forest, trees, scrub, herbaceous",
    3: "pasture, grass",
    4: "sparsely vegetated",
    5: "water, sea",
    6: "wetland",
    7: "bare rock",
    8: "glacier, snow",
}
"""The classes of the paper, in its order."""

FROM_WORLDCOVER = {10: 2, 20: 2, 30: 3, 40: 3, 50: 1, 60: 4, 70: 8, 80: 5, 90: 6, 95: 2, 100: 4}
"""Class of each ESA WorldCover class. Its "bare or sparse vegetation" does not tell rock from
sparse plants, so class 7 is only learned from the user's own points."""

OPTICAL = ("B2", "B3", "B4", "B8", "B11", "B12")
LABEL = "landcover"
_MAP = "ESA/WorldCover/v200"
# Metres between the pixels on which the cloud share of an image is counted.
_COARSE = 100.0
_DAY = 86_400_000


class Accuracy(NamedTuple):
    """Lazy results of one way of holding points back."""

    matrix: ee.ConfusionMatrix
    overall: ee.Number
    kappa: ee.Number


def clearest_day(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the Sentinel-2 images of the day before the change that shows most of the site.

    All images of that day are joined, so a site that lies across two tiles is whole; what is
    hidden on it is masked. Bands `OPTICAL` (reflectance * 10000).
    """
    assert site.pre is not None
    place, grid = region(site), site.grid()
    images = sentinel2.collection(site, site.pre, settled)

    def of(day: ee.Number) -> ee.ImageCollection:
        start = ee.Number(day).multiply(_DAY)
        return images.filterDate(ee.Date(start), ee.Date(start.add(_DAY)))

    def with_share(day: ee.Number) -> ee.Feature:
        clear = of(day).map(lambda image: sentinel2.clear(ee.Image(image))).max()
        share = clear.unmask(0, False).reduceRegion(
            reducer=ee.Reducer.mean(),
            geometry=place,
            crs=crs_code(grid),
            scale=max(_COARSE, site.resolution),
            maxPixels=1e9,
        )
        return ee.Feature(None, {"day": day, "seen": share.get("clear")})

    times = ee.List(images.aggregate_array("system:time_start"))
    days = times.map(lambda time: ee.Number(time).divide(_DAY).floor()).distinct()
    best = ee.FeatureCollection(days.map(with_share)).sort("seen", False).first()
    return of(best.get("day")).map(_seen).mosaic().select(list(OPTICAL))


def _seen(image: ee.Image) -> ee.Image:
    return ee.Image(image).updateMask(sentinel2.clear(ee.Image(image)))


def predictors(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return what the tree sees: optical bands, NDVI, elevation, slope, and VV, VH in dB.

    Everything is from before the change. Without Sentinel-1 (``sources: {s1: none}``) its two
    bands are absent.
    """
    assert site.pre is not None
    optical = clearest_day(site, settled)
    parts = [optical, sentinel2.ndvi(optical), terrain.elevation(site), terrain.slope(site)]
    if source(site, "s1") != "none":
        parts.append(sentinel1.composite(site, site.pre, settled))
    return ee.Image.cat(parts).toFloat()


def drawn_points(
    site: Site, per_class: int = 100, seed: int = 0, reference: str = _MAP
) -> ee.FeatureCollection:
    """Return points drawn evenly over the classes of a reference map.

    Parameters
    ----------
    site : Site
    per_class : int
        Most points of one class; a class with fewer pixels gives what it has.
    seed : int
    reference : str
        A map with the classes of ESA WorldCover: an image, or a collection of tiles. It has errors
        of its own, which no accuracy measured against it can show.

    Returns
    -------
    ee.FeatureCollection
        Points with the property ``landcover``, a key of `CLASSES`.
    """
    if per_class < 1:
        raise ConfigError(
            f"Site {site.name}: {per_class} points per class cannot train anything.",
            hint="Ask for at least 1; the default is 100.",
        )
    known = ee.ImageCollection(reference).mosaic().select([0])
    classes = known.remap(list(FROM_WORLDCOVER), list(FROM_WORLDCOVER.values())).rename(LABEL)
    grid = site.grid()
    return classes.toByte().stratifiedSample(
        numPoints=per_class,
        classBand=LABEL,
        region=region(site),
        scale=site.resolution,
        projection=crs_code(grid),
        seed=seed,
        geometries=True,
    )


def sampled(
    image: ee.Image,
    points: ee.FeatureCollection,
    site: Site,
    label: str = LABEL,
    keep: Sequence[str] = (),
) -> ee.FeatureCollection:
    """Return the points with the values of an image; points on masked ground fall out.

    Of the points' own properties `label` stays, and those in `keep`.
    """
    return image.sampleRegions(
        collection=points,
        properties=[label, *keep],
        projection=crs_code(site.grid()),
        scale=site.resolution,
        geometries=True,
    )


def folds_by_block(
    points: ee.FeatureCollection, site: Site, size: float = 500.0, folds: int = 5
) -> ee.FeatureCollection:
    """Give every point the fold of the square of ground it lies in, property ``fold``.

    Points of one square are never both learned from and judged by: neighbours are alike, and a
    random split would count that likeness as skill.

    Parameters
    ----------
    size : float
        Side of the squares, units of the site's CRS.
    folds : int
        Squares are dealt out in diagonal stripes, so every fold is spread over the site.
    """
    projection = ee.Projection(crs_code(site.grid()))

    def dealt(point: ee.Feature) -> ee.Feature:
        place = ee.Feature(point).geometry().transform(projection, 0.1).coordinates()
        column = ee.Number(place.get(0)).divide(size).floor()
        row = ee.Number(place.get(1)).divide(size).floor()
        # 2 and 5 share no factor: rows of a column and columns of a row take turns.
        return ee.Feature(point).set("fold", column.add(row.multiply(2)).mod(folds))

    return points.map(dealt)


def classified(image: ee.Image, training: ee.FeatureCollection, label: str = LABEL) -> ee.Image:
    """Return the class of every pixel, band ``CART_LC_classified`` (uint8, see `CLASSES`).

    Masked where a predictor is.
    """
    return image.classify(_tree(training, image, label), "CART_LC_classified").toByte()


def cart(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the land cover of a site, band ``CART_LC_classified``, by a tree of its own."""
    image = predictors(site, settled)
    return classified(image, sampled(image, drawn_points(site), site))


def _tree(training: ee.FeatureCollection, image: ee.Image, label: str) -> ee.Classifier:
    return ee.Classifier.smileCart().train(training, label, image.bandNames())


def accuracy(
    image: ee.Image, training: ee.FeatureCollection, fold: str, folds: int, label: str = LABEL
) -> Accuracy:
    """Judge the tree by folds: every point is classified by a tree that has not seen its fold.

    Parameters
    ----------
    image : ee.Image
        The predictors (for their names).
    training : ee.FeatureCollection
        From `sampled`, with a property that holds the number of its fold, 0 to ``folds - 1``.
    fold : str
        That property: ``fold`` of `folds_by_block`, a polygon's number, or a random one.
    folds : int
    label : str
    """
    parts = []
    for number in range(folds):
        rest = training.filter(ee.Filter.neq(fold, number))
        held = training.filter(ee.Filter.eq(fold, number))
        parts.append(held.classify(_tree(rest, image, label), "found"))
    judged = ee.FeatureCollection(parts).flatten()
    matrix = judged.errorMatrix(label, "found", sorted(CLASSES))
    return Accuracy(matrix, matrix.accuracy(), matrix.kappa())
