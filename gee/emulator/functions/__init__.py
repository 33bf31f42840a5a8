"""Earth Engine's functions, one module per family, each registered under its id.

Names, arguments and defaults are those of the list in the installed client. What the
documentation says is followed; where it is silent these rules stand, and none of them was
compared with Earth Engine:

- Types: ranges follow by interval arithmetic; a quotient of integers is float (double beyond
  24 bits); functions of one number give double for integers, else the precision of the input;
  means, medians and percentiles of integers are double.
- Masks: a result of two images has the lesser of the two masks; a composite the greatest.
- Pyramids: the level is chosen by nominal scales, also in projections that stretch.
- ``resample``: a masked pixel that contributes masks the result; within half a pixel of the
  image's edge the edge is repeated; bicubic is Catmull-Rom; integers become float.
- ``convolve``: a masked pixel under a weight masks the result.
- ``updateMask``: a negative number counts as 0, whatever its type.
- ``reduceResolution``: pixels have straight edges between their corners; an overlap of less than
  1e-4 of an input pixel is none; an output that is no coarser than the input reads single pixels.
- Columns of degrees and of Mercator maps are longitudes: images and shapes come again a turn away.
- ``cumulativeCost``: masked where the nearest source is farther than ``maxDistance``, paths sought
  within that of an aligned block of 512 x 512 pixels; bands beyond the first are numbered.
- ``directionalDistanceTransform``: the angle counts counter-clockwise from the right; a pixel that
  is not zero has distance 0.
- ``hillShadow``: straight rays over the output's pixels; ``hysteresis`` changes nothing.
- What a neighbourhood or a whole region needs at once is at most ``Limits.max_pixels`` (16.8
  million pixels): beyond it "User memory limit exceeded.".
- Terrain: central differences over the output's pixels, whose sizes in degrees are arcs of the
  WGS84 ellipsoid; flat ground faces 0.
- ``fastDistanceTransform`` beyond its neighbourhood: the distance of its rim.
- ``qualityMosaic``: the first of equal images.
- Percentiles interpolate linearly between values; no histogram stands in for many values.
- A region or a sample whose reducer must hold every value is refused above 2^21 pixels, and a
  tile over more than 2^27 pixels of a ``reproject``; Earth Engine refuses in the same words, where
  is not documented.
- ``default projection`` of a constant with an image: that of the image.
- Random numbers (``random``, ``randomColumn``, samples): repeatable by seed, place and index,
  equal to Earth Engine's in distribution only.
- Numbers: integers are Java's longs and wrap; casts stop at the ends of their type; special
  functions are those of Apache Commons Math at poles; ``round`` is half up; a remainder by
  zero is 0, as a quotient is.
- ``Number.format``: ``%d`` of a number with a fraction leaves the fraction out.
- Strings: expressions are Java's; ``split`` leaves out empty text at the end.
- ``List.sequence``: ten steps of 0.1 reach 1; ``count`` 1 gives the start.
- Dates: a fraction of a month or year is that part of the month or year that it falls in.
- Filters without a value: those that pass *unless* their opposite does, pass.
- Geometries: geodesic edges are great circles of the sphere of geodetic latitudes; lengths and
  areas are those of WGS84; ``spherical`` distances those of a sphere of 6,371,010 m; GeoJSON
  says ``geodesic`` only where it is false; rings that are made run anticlockwise.
- Classifiers are scikit-learn's: alike, not identical. Classes are in ascending order; of two
  classes PROBABILITY is that of the second; importances are the decreases of impurity at splits,
  not weighted by the data they see; the forest's error is the share of wrong votes out of bag, in
  regression the root of the mean square; margins, votes and distances are what RAW shows.
- ``minimumDistance``: Mahalanobis distances by each class's own covariance. ``amnhMaxent``:
  at most 30 knots per input; without extrapolation pixels outside the training are masked.
- Clusterers scale inputs to 0..1 as Weka does; the numbers of clusters are not Weka's.
- ``glcmTexture``: natural logarithms, symmetric matrices, sum variance about the sum average.
- ``spectralErosion`` and ``spectralDilation`` give spectra, ``spectralGradient`` their distance;
  ``emd`` is between spectra as shares of their sums.
- ``CannyEdgeDetector`` takes central differences and one threshold; ``HoughTransform`` whole
  degrees and pixels. Cells, tiles and blocks of segmentations, lines and filled pits are those of
  the output's lattice, 256 pixels a side where nothing else is said.
- ``inverseDistance``: the global mean weighs like a point at ``range / gamma``; ``kriging``:
  ordinary, the exponential and Gaussian shapes at 95 % of their way at the range; bands estimate
  and variance. ``displacement``: patches matched on a grid, half a patch apart.
- ``simpleCloudScore``: the commonly published ramps. ``pathRowLimit`` looks at the whole
  collection, not at the tile.
"""

from __future__ import annotations

import importlib
import threading

from .registry import REGISTRY, Entry, function

__all__ = ["REGISTRY", "Entry", "find", "function", "load_all"]

_FAMILIES = (
    "accuracy",
    "aggregates",
    "algorithms",
    "arithmetic",
    "array_images",
    "array_operations",
    "arrays",
    "bands",
    "cells",
    "classifiers",
    "clusterers",
    "collections",
    "connected",
    "cost",
    "constructors",
    "dates",
    "derivatives",
    "distance",
    "edges",
    "features",
    "filters",
    "focal",
    "geometries",
    "interpolation",
    "joins",
    "kernels",
    "landsat",
    "learners",
    "lists",
    "loading",
    "masks",
    "matrices",
    "maxent",
    "numbers",
    "profiles",
    "periods",
    "projections",
    "reducers",
    "regions",
    "registration",
    "resolution",
    "sampling",
    "segmentation",
    "sources",
    "spectral",
    "strings",
    "styles",
    "terrain",
    "texture",
    "timeseries",
    "trees",
    "types",
    "vectors",
    "visual",
)


# Families that need none of the others: a first number or date does not wait for all of them.
_ALONE = {"Number": "numbers", "String": "strings", "Date": "dates", "DateRange": "dates"}
# One thread loads at a time: the modules import each other, and two threads that met halfway
# would see them unfinished.
_loading = threading.RLock()
_complete = False


def find(name: str) -> Entry | None:
    """Return the function of an id, or None; its family is imported when it is first needed."""
    entry = REGISTRY.get(name)
    if entry is not None or _complete:
        return entry
    family = _ALONE.get(name.partition(".")[0])
    if family is not None:
        with _loading:
            importlib.import_module(f".{family}", __name__)
        entry = REGISTRY.get(name)
    return load_all().get(name) if entry is None else entry


def load_all() -> dict[str, Entry]:
    """Import every family and return the registry."""
    global _complete
    if not _complete:
        with _loading:
            for family in _FAMILIES:
                importlib.import_module(f".{family}", __name__)
            _complete = True
    return REGISTRY
