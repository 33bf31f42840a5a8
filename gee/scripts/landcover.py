"""Land cover by a classification tree (CART) trained for each site.

As in Ganerod et al. (2024), section 3: one Sentinel-2 image of the window before with hardly a
cloud, the elevation, and the Sentinel-1 composite of the window before; a tree
(``ee.Classifier.smileCart``) trained on points in eight classes. The points come from the user,
or are drawn from a reference map.

A tree that is trained inside the expression is trained (and paid for) again by every tile.
`gee.exports.landcover.learn` therefore asks for the day of the image and for the tree once, and
`cart` takes both as constants (`Settled.clear_day`, `Settled.tree`).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ee

from gee.grids import crs_code
from gee.scripts import sentinel1, sentinel2, terrain
from gee.scripts.place import mapped, region, source
from gee.scripts.settled import Settled
from gee.scripts.sources import is_file
from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = [
    "BAND",
    "CLASSES",
    "FROM_WORLDCOVER",
    "GROUP",
    "LABEL",
    "OPTICAL",
    "by_tree",
    "cart",
    "clear_shares",
    "clearest_day",
    "drawn_points",
    "folds_by_block",
    "has_points",
    "inputs",
    "judged",
    "points_of",
    "predictors",
    "sampled",
    "trained",
    "user_points",
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

BAND = "CART_LC_classified"
OPTICAL = ("B2", "B3", "B4", "B8", "B11", "B12")
LABEL = "landcover"
GROUP = "group"
PER_CLASS = 100
"""Points of each class that are drawn from a reference map."""

# On how many pixels at most the cloud share of an image is counted, and how coarse at least; on
# how many the reference map is looked at for points.
_COUNTED = 250_000
_LOOKED_AT = 25_000_000
_COARSE = 100.0
_DAY = 86_400_000


def _scale(site: Site, most: int) -> float:
    """Return the pixel size at which a site has so many pixels at most."""
    rows, cols = site.grid().shape
    return site.resolution * max(1.0, math.sqrt(rows * cols / most))


def clear_shares(site: Site, settled: Settled | None = None) -> ee.FeatureCollection:
    """Return one feature per day of the window before: ``day``, and ``seen``, its clear share.

    ``day`` counts from 1970-01-01, by the site's sun (`sentinel2.solar_day`); ``seen`` is the
    share of the site, 0 to 1, that the day's images show clear of clouds.
    """
    assert site.pre is not None
    images = sentinel2.seen(site, site.pre, settled)
    place, grid = region(site), site.grid()

    def with_share(day: ee.Number) -> ee.Feature:
        clear = _of_day(images, site, ee.Number(day)).select("clear").max()
        share = clear.unmask(0, False).reduceRegion(
            reducer=ee.Reducer.mean(),
            geometry=place,
            crs=crs_code(grid),
            scale=max(_COARSE, _scale(site, _COUNTED)),
            maxPixels=1e9,
        )
        return ee.Feature(None, {"day": day, "seen": share.get("clear")})

    times = ee.List(images.aggregate_array("system:time_start"))
    days = times.map(lambda time: sentinel2.solar_day(ee.Number(time), site)).distinct().sort()
    return ee.FeatureCollection(days.map(with_share))


def _of_day(images: ee.ImageCollection, site: Site, day: ee.Number) -> ee.ImageCollection:
    start = day.multiply(_DAY).subtract(sentinel2.solar_shift(site))
    return images.filterDate(ee.Date(start), ee.Date(start.add(_DAY)))


def clearest_day(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the Sentinel-2 images of the day before the change that shows most of the site.

    All images of that day are joined, so a site that lies across two tiles is whole; what is
    hidden on it is masked. Bands `OPTICAL` (reflectance * 10000).

    Parameters
    ----------
    site : Site
    settled : Settled, optional
        With `Settled.clear_day`, that day is taken; without, every tile looks for it anew.
    """
    assert site.pre is not None
    images = sentinel2.masked(site, site.pre, settled)
    if settled is not None and settled.clear_day is not None:
        day = ee.Number((settled.clear_day - dt.date(1970, 1, 1)).days)
    else:
        day = ee.Number(clear_shares(site, settled).sort("seen", False).first().get("day"))
    of_day = _of_day(images, site, day)
    return of_day.select(list(OPTICAL)).mosaic()


def inputs(site: Site) -> tuple[str, ...]:
    """Return the names of the bands of `predictors`."""
    radar = () if source(site, "s1") == "none" else sentinel1.POLARISATIONS
    return (*OPTICAL, "NDVI", "elevation", "slope", *radar)


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


def drawn_points(site: Site, per_class: int = PER_CLASS, seed: int = 0) -> ee.FeatureCollection:
    """Return points drawn evenly over the classes of the site's reference map.

    Parameters
    ----------
    site : Site
        ``sources.landcover`` is a map with the classes of ESA WorldCover. It has errors of its
        own, which no accuracy measured against it can show.
    per_class : int
        Most points of one class; a class with fewer pixels gives what it has.
    seed : int

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
    known = mapped(site, "landcover")
    classes = known.remap(list(FROM_WORLDCOVER), list(FROM_WORLDCOVER.values())).rename(LABEL)
    return classes.toByte().stratifiedSample(
        numPoints=per_class,
        classBand=LABEL,
        region=region(site),
        scale=_scale(site, _LOOKED_AT),
        projection=crs_code(site.grid()),
        seed=seed,
        geometries=True,
    )


def has_points(site: Site) -> bool:
    """Tell whether the site brings points of its own: a file, or an asset."""
    return site.landcover_points is not None or "landcover_points" in site.sources


def user_points(site: Site) -> ee.FeatureCollection:
    """Return the points of the asset under ``sources.landcover_points``, within the site.

    Raises
    ------
    ConfigError
        It is the name of a file.
    """
    name = source(site, "landcover_points")
    if is_file(name):
        raise ConfigError(
            f"Site {site.name}: sources.landcover_points is {name}, a file; it takes the id of an "
            "asset.",
            hint=f"Write `landcover_points: {name}` into the site's file instead.",
        )
    asset = ee.FeatureCollection(name)
    return asset.filterBounds(region(site)).filter(ee.Filter.inList(LABEL, list(CLASSES)))


def points_of(site: Site) -> ee.FeatureCollection:
    """Return the points to train on: the user's asset, else points of the reference map.

    Raises
    ------
    ConfigError
        The points are in a file, which only an export reads; there is neither asset nor map.
    """
    if site.landcover_points is not None:
        raise ConfigError(
            f"Site {site.name}: its land cover is learned from the file {site.landcover_points}, "
            "which an expression cannot read.",
            hint="Learn it first (`gee.exports.survey.survey` does) and give what is settled.",
        )
    if "landcover_points" in site.sources:
        return user_points(site)
    if source(site, "landcover") == "none":
        raise ConfigError(
            f"Site {site.name}: sources.landcover is none, and there are no points to learn the "
            "land cover from.",
            hint=f"Give landcover_points, or leave {BAND} out of the site's bands.",
        )
    return drawn_points(site)


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


def trained(
    training: ee.FeatureCollection, names: Sequence[str] | ee.List, label: str = LABEL
) -> ee.Classifier:
    """Return the tree that some points with predictors teach.

    Parameters
    ----------
    training : ee.FeatureCollection
        From `sampled`.
    names : sequence of str or ee.List
        Predictors: properties of the points and bands of the image to classify.
    label : str
    """
    return ee.Classifier.smileCart().train(training, label, names)


def judged(
    training: ee.FeatureCollection,
    names: Sequence[str] | ee.List,
    fold: str,
    folds: int,
    label: str = LABEL,
) -> ee.ConfusionMatrix:
    """Judge the tree by folds: every point is classified by a tree that has not seen its fold.

    Parameters
    ----------
    training : ee.FeatureCollection
        From `sampled`, with a property that holds the number of its fold, 0 to ``folds - 1``.
    names : sequence of str or ee.List
        As for `trained`.
    fold : str
        That property: ``fold`` of `folds_by_block`, a polygon's number, or a random one.
    folds : int
    label : str

    Returns
    -------
    ee.ConfusionMatrix
        Rows are the true classes, columns the found ones, in the order of `CLASSES`.
    """
    parts = []
    for number in range(folds):
        rest = training.filter(ee.Filter.neq(fold, number))
        held = training.filter(ee.Filter.eq(fold, number))
        parts.append(held.classify(trained(rest, names, label), "found"))
    return ee.FeatureCollection(parts).flatten().errorMatrix(label, "found", sorted(CLASSES))


def by_tree(image: ee.Image, tree: ee.Classifier) -> ee.Image:
    """Return the class of every pixel, band ``CART_LC_classified`` (uint8, see `CLASSES`).

    Masked where a predictor is, whether the tree asks for it or not.
    """
    seen = image.mask().reduce(ee.Reducer.min())
    return image.updateMask(seen).classify(tree, BAND).toByte()


def cart(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the land cover of a site, band ``CART_LC_classified``, by a tree of its own.

    Parameters
    ----------
    site : Site
    settled : Settled, optional
        With `Settled.tree`, that tree is used, the same in every tile. Without, it is trained
        inside the expression.

    Raises
    ------
    ConfigError
        No tree, and nothing to learn one from (see `points_of`).
    """
    image = predictors(site, settled)
    if settled is not None and settled.tree is not None:
        return by_tree(image, ee.Classifier.decisionTree(settled.tree))
    names = inputs(site)
    return by_tree(image, trained(sampled(image, points_of(site), site), names))
