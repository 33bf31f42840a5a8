"""Whether factors can be learned from: their names, their grids and their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from thawslump.bands import BANDS
from thawslump.errors import DataError, nearest

__all__ = [
    "NothingToDraw",
    "Site",
    "Watch",
    "check_grids",
    "check_values",
    "choose_factors",
    "no_predictor",
    "without_worth",
]


class NothingToDraw(DataError):
    """The labels hold no slump, or no ground without one."""


@dataclass(frozen=True)
class Site:
    """What the header of a site's factors says.

    Attributes
    ----------
    name, path : str
    bands : tuple of str
    grid : GeoBox
    """

    name: str
    path: str
    bands: tuple[str, ...]
    grid: GeoBox


# Names ---------------------------------------------------------------------------------------

_PLACES = re.compile(
    r"""((coord(inate)?s?|utm|pos|point|cent(er|re|roid)?|grid|pixel)_?)?
        (x|y|lon|lat|long|longitude|latitude|east|north|easting|northing|row|col|column|line)
        (_?(coord(inate)?s?|utm|wgs84|4326|deg|degrees|m|center|centre|index|no|nr))?""",
    re.VERBOSE,
)
_NUMBERS = re.compile(
    r"""([a-z0-9]+_)*(f|u|o|g|ogc_f|object|point|cell|site|tile|slump|feature|gml_|part)?
        (id|ids)(entifier)?|uuid|guid|identifier|index|number|block|fold|site|tile""",
    re.VERBOSE,
)
_ANSWERS = re.compile(
    r"labels?|target|slumps?|thaw_?slumps?|landslides?|probability|susceptibility"
)
_QUALITY = {
    "upslope_cut": "says how far TWI and SPI can be trusted",
    "LST_days": "counts the days behind LST",
}
_TWICE = {"slope_horn": "slope", "aspect_horn": "aspect"}


def no_predictor(name: str, beside: Sequence[str] = ()) -> str | None:
    """Return why a band is no conditioning factor unless it is asked for by name; None if it is.

    - Coordinates and identifiers: a model that knows where or which a sample is recites the
      inventory, and random folds praise it for that. So does one that knows the answer.
    - Bands that tell of the quality of others.
    - A second convention of a factor that is there.

    Parameters
    ----------
    name : str
    beside : sequence of str
        The other bands.

    Examples
    --------
    >>> no_predictor("X_coord"), no_predictor("slump_id")
    ('a coordinate', 'an identifier')
    >>> no_predictor("slope_horn", ["slope"])
    'slope by another convention'
    >>> [no_predictor(name) for name in ("slope_horn", "distance_rivers", "north@100", "humid")]
    [None, None, None, None]
    """
    plain = re.sub(r"[\s.\-]+", "_", name.strip().lower())
    if _PLACES.fullmatch(plain):
        return "a coordinate"
    if _NUMBERS.fullmatch(plain):
        return "an identifier"
    if _ANSWERS.fullmatch(plain):
        return "what is to be predicted"
    if name in _QUALITY:
        return f"no property of the ground: it {_QUALITY[name]}"
    if _TWICE.get(name) in beside:
        return f"{_TWICE[name]} by another convention"
    return None


def choose_factors(
    sites: Sequence[Site], asked: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the factors to learn from, and why other bands are left out.

    - Asked for by name: those, in that order; every site must have them.
    - Not asked for: all bands that every site has, in the order of the first site, but those
      that `no_predictor` names.

    Parameters
    ----------
    sites : sequence of Site
        At least one.
    asked : sequence of str
        Names, or nothing for all.

    Returns
    -------
    factors : tuple of str
    left_out : dict of name to reason

    Raises
    ------
    DataError
        A site lacks a factor, a factor is asked for twice, or none is left.
    """
    if asked:
        for name in asked:
            if list(asked).count(name) > 1:
                raise DataError(
                    f"Factor {name} is asked for {list(asked).count(name)} times.",
                    hint="Name it once under `factors:`.",
                )
        for site in sites:
            for name in asked:
                if name not in site.bands:
                    others = [each.name for each in sites if name in each.bands]
                    raise DataError(
                        f"Factor {name} is not in {site.path} (site {site.name}); it has "
                        f"{', '.join(site.bands)}."
                        + nearest(name, site.bands)
                        + (f" {_some(others)} {_have(others)} it." if others else ""),
                        hint=f"{aligning(site.name, name)}; or leave {name} out of `factors:`.",
                    )
        return tuple(asked), {}
    everywhere = [name for name in sites[0].bands if all(name in site.bands for site in sites)]
    left_out = {}
    for name in dict.fromkeys(name for site in sites for name in site.bands):
        lacking = [site.name for site in sites if name not in site.bands]
        why = no_predictor(name, everywhere)
        if lacking:
            left_out[name] = f"not in {_some(lacking)}"
        elif why is not None:
            left_out[name] = why
    factors = tuple(name for name in everywhere if name not in left_out)
    if not factors:
        told = "; ".join(f"{name} is {why}" for name, why in left_out.items())
        raise DataError(
            f"No factor is left that all {len(sites)} sites have: {told or 'there is no band'}.",
            hint="Name under `factors:` what is to be learned from, or add the factors to the "
            f"sites that lack them. {aligning(sites[0].name, 'NAME')}.",
        )
    return factors, left_out


def aligning(site: str, factor: str) -> str:
    """Return the words for the commands that bring a factor onto the grid of a site."""
    return (
        "Own rasters: `thawslump tiles import "
        f"{site} ... --factor {factor}=FILE.tif` warps them onto the site's grid; "
        "Earth Engine: add it under `factors:` of the site's file, then `thawslump export run`"
    )


def _some(names: Sequence[str]) -> str:
    some = ", ".join(names[:3])
    return some if len(names) <= 3 else f"{some} and {len(names) - 3} more"


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


# Grids ---------------------------------------------------------------------------------------


def check_grids(sites: Sequence[Site], labels: Mapping[str, GeoBox] | None = None) -> None:
    """Refuse factors that cannot be learned from together, or labels that lie elsewhere.

    Sites may lie in different UTM zones; their cells must be of one size, for slope, curvature
    and a majority of label pixels mean something else on larger cells.

    Parameters
    ----------
    sites : sequence of Site
    labels : mapping of site to GeoBox, optional
        Grids of the labels.

    Raises
    ------
    DataError
        A grid in degrees or turned, cells of different sizes, labels in another coordinate
        system, or over less than the ground of the factors.
    """
    for site in sites:
        grid, affine = site.grid, site.grid.affine
        if grid.crs is None or grid.crs.geographic:
            raise DataError(
                f"{site.path} (site {site.name}) is in {grid.crs}, which counts in degrees; "
                "the buffer and the blocks are in metres.",
                hint=f"`thawslump tiles import {site.name} ... --crs EPSG:32652` (the site's UTM "
                "zone) warps it.",
            )
        if affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
            raise DataError(
                f"{site.path} (site {site.name}) is turned or upside down: its transform is "
                f"{tuple(affine)[:6]}.",
                hint=f"`thawslump tiles import {site.name} ...` warps it north up.",
            )
    first = sites[0]
    for site in sites[1:]:
        sizes = [(abs(each.grid.affine.a), abs(each.grid.affine.e)) for each in (first, site)]
        if any(abs(a - b) > 0.01 * a for a, b in zip(*sizes, strict=True)):
            raise DataError(
                f"Factors of {first.name} have cells of {_size(sizes[0])}, those of {site.name} of "
                f"{_size(sizes[1])} ({site.path}); one size was expected.",
                hint=f"`thawslump tiles import {site.name} ... --resolution "
                f"{sizes[0][0]:g}` warps own rasters to it; for Earth Engine give both sites the "
                "same resolution and run `thawslump export run`.",
            )
    for site in sites:
        if labels is not None and site.name in labels:
            _check_labels(site, labels[site.name])


def _check_labels(site: Site, grid: GeoBox) -> None:
    again = (
        f"`thawslump run` makes the labels of {site.name} again on the grid of its stack; factors "
        f"from elsewhere: `thawslump tiles import {site.name} ... --factor NAME=FILE.tif`."
    )
    if grid.crs != site.grid.crs:
        raise DataError(
            f"The labels of {site.name} are in {grid.crs}, {site.path} in {site.grid.crs}; "
            "one coordinate system was expected.",
            hint=again,
        )
    affine = grid.affine
    if affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
        raise DataError(
            f"The labels of {site.name} are turned or upside down: their transform is "
            f"{tuple(affine)[:6]}.",
            hint=again,
        )
    box, other = grid.boundingbox, site.grid.boundingbox
    wide = min(box.right, other.right) - max(box.left, other.left)
    high = min(box.top, other.top) - max(box.bottom, other.bottom)
    if wide <= 0 or high <= 0:
        raise DataError(
            f"The labels of {site.name} and {site.path} do not overlap: they reach from "
            f"{_corners(box)} and from {_corners(other)}.",
            hint=again,
        )
    # A grid of coarser cells may end a cell before or after that of the labels.
    cell = (abs(site.grid.affine.a), abs(site.grid.affine.e))
    missing = (
        abs(box.left - other.left) > cell[0]
        or abs(box.right - other.right) > cell[0]
        or abs(box.top - other.top) > cell[1]
        or abs(box.bottom - other.bottom) > cell[1]
    )
    if missing:
        share = wide * high / ((box.right - box.left) * (box.top - box.bottom))
        raise DataError(
            f"{site.path} covers {share:.0%} of the labels of {site.name}: they reach from "
            f"{_corners(box)}, the factors from {_corners(other)}.",
            hint=again,
        )


def _size(size: tuple[float, float]) -> str:
    return f"{size[0]:g} x {size[1]:g} m"


def _corners(box: object) -> str:
    left, bottom, right, top = (float(v) for v in box)  # type: ignore[attr-defined]
    return f"{left:.0f}, {bottom:.0f} to {right:.0f}, {top:.0f}"


# Values --------------------------------------------------------------------------------------

# Numbers that software writes where there is none, and that a factor hardly ever has.
_STRONG = (-9999.0, -99999.0, -32768.0, -32767.0, 32767.0, 65535.0, -999.0, -2147483648.0)
# Those that a factor may well have: believed to be one only far from all other values.
_WEAK = (0.0, 255.0, 999.0, 9999.0, -99.0, -1.0)
_HUGE = 1e20  # beyond any quantity: what is left of 1e38, -3.4e38


@dataclass
class _Seen:
    count: int = 0
    near: int = 0
    low: float = np.inf
    high: float = -np.inf


@dataclass
class Watch:
    """Looks at the values of one factor, part by part, for numbers that stand for none.

    Attributes
    ----------
    classes : bool
        The factor holds class numbers.
    cells, valid, infinite, huge : int
        Cells seen, of these with a finite number below 1e20, infinite, and at least 1e20 in size.
    low, high : float
        Of the valid ones.

    Examples
    --------
    >>> watch = Watch()
    >>> watch.look(np.array([812.0, 790.0, -9999.0, 805.0, -9999.0]))
    >>> watch.suspect()
    (-9999.0, 2, 790.0, 812.0)
    """

    classes: bool = False
    cells: int = 0
    valid: int = 0
    infinite: int = 0
    huge: int = 0
    low: float = np.inf
    high: float = -np.inf
    largest: float = 0.0
    _seen: dict[float, _Seen] = field(
        default_factory=lambda: {value: _Seen() for value in (*_STRONG, *_WEAK)}
    )

    def look(self, values: NDArray[np.floating]) -> None:
        """Take in values, NaN where missing; the order and the parts do not matter."""
        values = np.asarray(values).ravel()
        self.cells += values.size
        values = values[~np.isnan(values)]
        finite = np.isfinite(values)
        self.infinite += int(values.size - finite.sum())
        values = values[finite]
        large = np.abs(values) >= _HUGE
        if large.any():
            self.huge += int(large.sum())
            found = values[large]
            self.largest = float(found[np.argmax(np.abs(found))])
            values = values[~large]
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        self.valid += values.size
        self.low, self.high = min(self.low, low), max(self.high, high)
        for value, seen in self._seen.items():
            if low <= value <= high:
                same = values == value
                count = int(np.count_nonzero(same))
                seen.count += count
                others = values[~same] if count else values
                if others.size == 0:
                    continue
                near = np.abs(others - value) <= 0.01 * abs(value)
                seen.near += int(np.count_nonzero(near))
                rest = (float(others.min()), float(others.max())) if count else (low, high)
            else:
                rest = (low, high)
            seen.low, seen.high = min(seen.low, rest[0]), max(seen.high, rest[1])

    def suspect(self) -> tuple[float, int, float, float] | None:
        """Return a number that seems to stand for none: it, its cells, lowest and highest other.

        - -9999, -32768, 32767 and their like: at the very end of the values, and with fewer other
          cells within one in a hundred of it than cells that have it.
        - 0, 255, 9999 and their like: farther from all others than these are from each other.
          0 and -1 only where the factor holds no classes.
        """
        for value, seen in self._seen.items():
            if seen.count == 0:
                continue
            alone = seen.low > seen.high
            ends = alone or value < seen.low or value > seen.high
            if value in _STRONG:
                if ends and seen.near < seen.count:
                    return value, seen.count, seen.low, seen.high
                continue
            if alone or not ends or (self.classes and value in (0.0, -1.0)):
                continue
            gap = seen.low - value if value < seen.low else value - seen.high
            if gap > seen.high - seen.low > 0:
                return value, seen.count, seen.low, seen.high
        return None


def check_values(watches: Mapping[str, Watch], site: str, path: str, believe: bool = False) -> None:
    """Refuse a site whose factors hold infinite values or a number that stands for none.

    Parameters
    ----------
    watches : mapping of factor to Watch
    site, path : str
        For the words.
    believe : bool
        Take suspicious numbers for real; infinite ones are refused all the same.

    Raises
    ------
    DataError
        Names the factor, the site, the file, the value and its share.
    """
    for name, watch in watches.items():
        where = f"Factor {name} of site {site} ({path})"
        if watch.infinite:
            raise DataError(
                f"{where} is infinite in {_cells(watch.infinite, watch.cells)}; numbers, or NaN "
                "where there is none, were expected.",
                hint="A ratio was probably divided by 0: compute it again with a lower limit, or "
                "mark those cells as missing. " + aligning(site, name) + ".",
            )
        if believe:
            continue
        if watch.huge:
            found, count = watch.largest, watch.huge
            rest = (watch.low, watch.high)
        else:
            suspect = watch.suspect()
            if suspect is None:
                continue
            found, count, *ends = suspect
            rest = (ends[0], ends[1])
        others = (
            f"between {rest[0]:g} and {rest[1]:g} elsewhere"
            if rest[0] <= rest[1]
            else "nothing else anywhere"
        )
        raise DataError(
            f"{where} is {found:g} in {_cells(count, watch.cells)} and {others}: this looks like a "
            "number for missing values that the file does not declare.",
            hint=f"Declare it and import again: `gdal_edit.py -a_nodata {found:g} FILE.tif`, then "
            f"`thawslump tiles import {site} ... --factor {name}=FILE.tif`. If {found:g} is a real "
            "value, set `nodata_check: false` under `susceptibility:`.",
        )


def _cells(count: int, cells: int) -> str:
    share = count / max(1, cells)
    told = f"{share:.1%}" if share >= 0.0005 else "less than 0.1%"
    return f"{count} of {cells} cells looked at ({told})"


def without_worth(
    factors: Mapping[str, NDArray[np.float32]], asked: Sequence[str]
) -> dict[str, str]:
    """Return the factors that tell nothing of the samples, and why: no value, or one value.

    Parameters
    ----------
    factors : mapping of name to ndarray of float32, shape (n,)
        Of all samples that are learned from.
    asked : sequence of str
        Those that were asked for by name.

    Returns
    -------
    dict of name to reason
        Never all of them.

    Raises
    ------
    DataError
        One that was asked for by name has no value, or no factor is left.
    """
    found: dict[str, str] = {}
    for name, values in factors.items():
        known = values[np.isfinite(values)]
        if known.size == 0:
            if name in asked:
                raise DataError(
                    f"Factor {name} has no value in any of the {values.size} samples.",
                    hint=f"Leave it out of `factors:`, or give the sites a raster with values. "
                    f"{aligning('SITE', name)}.",
                )
            found[name] = "no value in any sample"
        elif (known == known[0]).all():
            found[name] = f"{known[0]:g} in all samples"
    if len(found) == len(factors):
        told = "; ".join(f"{name}: {why}" for name, why in found.items())
        raise DataError(
            f"No factor tells the samples apart ({told}).",
            hint="Name others under `factors:`.",
        )
    return found


def is_classes(name: str) -> bool:
    """Return whether a band is known to hold class numbers."""
    return name in BANDS and BANDS[name].categorical
