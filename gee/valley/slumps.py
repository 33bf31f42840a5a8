"""Slumps: how large, of what shape, where, and what they do to the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage, optimize
from shapely import affinity
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from gee.valley.place import Frame
from thawslump.vector import rasterize

__all__ = [
    "EXPONENT",
    "LARGEST",
    "PARTS",
    "SLOPES",
    "SMALLEST",
    "Cover",
    "Slump",
    "carve",
    "cover",
    "fit_exponent",
    "outline",
    "place",
    "power_law",
    "susceptibility",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMALLEST, LARGEST = 2500.0, 110_000.0
"""Areas in square metres between which the power law holds."""

EXPONENT = 1.8
"""Density of the areas: p(A) proportional to A**-EXPONENT."""

SLOPES = (1.0, 18.0)
"""Degrees on which slumps form (of the ground before it fails)."""

PARTS = ("headwall", "floor", "tongue")


def power_law(
    count: int,
    random: np.random.Generator,
    *,
    exponent: float = EXPONENT,
    smallest: float = SMALLEST,
    largest: float = LARGEST,
) -> NDArray[np.float64]:
    """Return `count` areas from a power law between two ends, largest first.

    Examples
    --------
    >>> areas = power_law(1000, np.random.default_rng(0))
    >>> bool(areas.min() >= SMALLEST and areas.max() <= LARGEST)
    True
    """
    low, high = smallest ** (1.0 - exponent), largest ** (1.0 - exponent)
    share = random.uniform(0.0, 1.0, count)
    areas = (low + share * (high - low)) ** (1.0 / (1.0 - exponent))
    return np.sort(areas)[::-1]


def fit_exponent(
    areas: Sequence[float] | NDArray[np.float64],
    *,
    smallest: float = SMALLEST,
    largest: float = LARGEST,
) -> tuple[float, float]:
    """Return the exponent of largest likelihood for areas between two ends, and its standard error.

    The error is that of the Fisher information of the same, truncated law.

    Examples
    --------
    >>> areas = power_law(5000, np.random.default_rng(0), exponent=2.0)
    >>> exponent, error = fit_exponent(areas)
    >>> abs(exponent - 2.0) < 3 * error
    True
    """
    scaled = np.log(np.asarray(areas, dtype=np.float64) / smallest)
    span = float(np.log(largest / smallest))

    def mean_log(rate: float) -> float:
        # log(A / smallest) follows an exponential law of this rate, cut at `span`.
        if abs(rate) < 1e-9:
            return span / 2.0
        return 1.0 / rate - span / np.expm1(rate * span)

    rate = optimize.brentq(lambda r: mean_log(r) - float(scaled.mean()), -5.0, 20.0)
    edge = span * span * np.exp(rate * span) / np.expm1(rate * span) ** 2
    variance = 1.0 / rate**2 - edge
    return 1.0 + float(rate), float(1.0 / np.sqrt(scaled.size * variance))


def susceptibility(
    slope: Array,
    aspect: Array,
    ice: Array,
    height: Array,
    shore: Array,
    ruled_out: Mask,
) -> Array:
    """Return how likely ground is to fail, relative to the best: the process behind the slumps.

    A product of odds: slope (best at 7 degrees), ice content, slopes that face north, ground low in
    the valley, and undercutting by water near by. Zero outside 1 to 18 degrees, where ice is poor
    (under 35 %) and where `ruled_out`.

    Parameters
    ----------
    slope, aspect : float32 arrays (rows, cols)
        Degrees, of the ground smoothed over a slump's length.
    ice : float32 array
        Volumetric share, 0..1.
    height : float32 array
        Metres above the river.
    shore : float32 array
        Metres to the nearest river, stream or lake.
    ruled_out : bool array
        Water, floodplain, rock.

    Returns
    -------
    float32 array, 0..1
    """
    logit = (
        -2.2
        - 0.5 * ((slope - 7.0) / 3.2) ** 2
        + 7.0 * (ice - 0.55)
        + 1.1 * np.cos(np.radians(aspect - 15.0))
        - 0.012 * (height - 40.0)
        + 1.5 * np.exp(-shore / 180.0)
    )
    share = 1.0 / (1.0 + np.exp(-logit))
    possible = (slope >= SLOPES[0]) & (slope <= SLOPES[1]) & (ice >= 0.35) & ~ruled_out
    return np.asarray(np.where(possible, share, 0.0), np.float32)


@dataclass(frozen=True)
class Cover:
    """What share of each pixel of a window an outline's parts cover.

    Attributes
    ----------
    row, col : int
        Upper-left pixel of the window.
    shares : float32 array (3, rows, cols)
        headwall, floor, tongue; 0..1.
    down : float32 array (rows, cols)
        Metres downhill of the head of the scar.
    """

    row: int
    col: int
    shares: Array
    down: Array

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the window in the whole array."""
        rows, cols = self.down.shape
        return slice(self.row, self.row + rows), slice(self.col, self.col + cols)


@dataclass(frozen=True)
class Slump:
    """One slump, or one old scar.

    Attributes
    ----------
    id : int
    outline : Polygon
        In the valley's CRS.
    parts : dict
        headwall, floor, tongue: parts of `outline` that do not overlap.
    downhill : float
        Direction of movement, degrees clockwise from grid north.
    length : float
        Metres from head to toe.
    freshness : float
        Share of the vegetation lost in the post year where the ground is wholly turned over.
    grown : float
        Share of the scar that was there before the pre year (and had begun to grow over).
    cover : Cover
    """

    id: int
    outline: Polygon
    parts: dict[str, BaseGeometry]
    downhill: float
    length: float
    freshness: float
    grown: float
    cover: Cover = field(repr=False)

    @property
    def area(self) -> float:
        """Square metres."""
        return float(self.outline.area)


def outline(
    area: float, random: np.random.Generator
) -> tuple[Polygon, dict[str, BaseGeometry], float]:
    """Return a slump of `area` square metres whose head is at the origin, downhill along +x.

    Parameters
    ----------
    area : float
    random : numpy Generator

    Returns
    -------
    outline : Polygon
    parts : dict of geometries
        headwall (a crescent at the head), floor, tongue (narrower, tapering downhill).
    length : float
        Metres from head to toe.

    Examples
    --------
    >>> shape, parts, length = outline(9000.0, np.random.default_rng(2))
    >>> round(shape.area), round(sum(part.area for part in parts.values()))
    (9000, 9000)
    """
    turn = np.linspace(0.0, 2.0 * np.pi, 72, endpoint=False)
    lobes = np.ones_like(turn)
    for order in range(2, 8):
        size = random.normal(0.0, 0.17 / np.sqrt(order - 1))
        lobes += size * np.cos(order * turn + random.uniform(0.0, 2.0 * np.pi))
    lobes = np.clip(lobes, 0.6, 1.5)
    stretch = np.exp(random.normal(0.08, 0.22))  # > 1: longer than wide
    # A horseshoe: blunt at the head (-x), narrowing towards the outlet (+x).
    x = stretch * lobes * np.cos(turn)
    y = lobes * np.sin(turn) * (1.0 - 0.28 * np.cos(turn))
    floor: BaseGeometry = Polygon(np.column_stack([x, y])).buffer(0)
    reach = random.uniform(0.5, 1.5)
    wide, narrow = random.uniform(0.45, 0.62), random.uniform(0.22, 0.40)
    bend = random.normal(0.0, 0.22)
    steps = np.linspace(0.0, 1.0, 9)
    middle = bend * steps**2
    half = wide + (narrow - wide) * steps
    half = half * (1.0 + random.normal(0.0, 0.10, steps.size))
    along = 0.35 * stretch + steps * (reach + 0.65 * stretch)
    sides = np.vstack(
        [
            np.column_stack([along, middle + half]),
            np.column_stack([along, middle - half])[::-1],
        ]
    )
    lobe = Polygon(sides).buffer(0.12, quad_segs=3)
    whole = shapely.union_all([floor, lobe])
    whole = max(shapely.get_parts(whole), key=lambda part: part.area)
    whole = Polygon(whole.exterior)
    scale = float(np.sqrt(area / whole.area))
    head = whole.bounds[0]

    def grow(shape: BaseGeometry) -> BaseGeometry:
        moved = affinity.translate(shape, -head, 0.0)
        return affinity.scale(moved, scale, scale, origin=(0, 0))

    whole, floor = grow(whole), grow(floor).intersection(grow(whole))
    thick = float(np.clip(0.09 * np.sqrt(area), 8.0, 22.0))
    headwall = floor.difference(affinity.translate(floor, thick, 0.0))
    half_way = floor.centroid.x
    headwall = headwall.intersection(shapely.box(-1e6, -1e6, half_way, 1e6))
    parts = {
        "headwall": headwall,
        "floor": floor.difference(headwall),
        "tongue": whole.difference(floor),
    }
    return whole, parts, float(whole.bounds[2])


def _to_map(shape: BaseGeometry, downhill: float, east: float, north: float) -> BaseGeometry:
    """Turn +x to a compass direction and move the origin to a place."""
    turned = affinity.rotate(shape, 90.0 - downhill, origin=(0, 0))
    return affinity.translate(turned, east, north)


def cover(
    parts: Sequence[BaseGeometry], frame: Frame, head: tuple[float, float], downhill: float
) -> Cover:
    """Return the shares of the pixels around some shapes that they cover, to a sixteenth.

    Parameters
    ----------
    parts : sequence of geometries
        In the CRS of `frame`.
    frame : Frame
    head : (easting, northing)
        Where `Cover.down` is zero.
    downhill : float
        Degrees clockwise from north.
    """
    fine = 4
    west, south, east, north = shapely.total_bounds(np.array(list(parts), dtype=object))
    col0 = max(int((west - frame.left) // frame.pixel) - 3, 0)
    row0 = max(int((frame.top - north) // frame.pixel) - 3, 0)
    col1 = min(int((east - frame.left) // frame.pixel) + 4, frame.shape[1])
    row1 = min(int((frame.top - south) // frame.pixel) + 4, frame.shape[0])
    rows, cols = row1 - row0, col1 - col0
    left, top = frame.left + col0 * frame.pixel, frame.top - row0 * frame.pixel
    small = Frame((rows * fine, cols * fine), frame.pixel / fine, left, top)
    shares = np.stack(
        [
            rasterize([part], small.geobox)
            .reshape(rows, fine, cols, fine)
            .mean(axis=(1, 3), dtype=np.float32)
            for part in parts
        ]
    )
    x, y = Frame((rows, cols), frame.pixel, left, top).centres()
    angle = np.radians(downhill)
    down = (x[None, :] - head[0]) * np.sin(angle) + (y[:, None] - head[1]) * np.cos(angle)
    return Cover(row0, col0, shares, down.astype(np.float32))


def place(
    areas: Sequence[float] | NDArray[np.float64],
    probability: Array,
    downhill: Array,
    slope: Array,
    free: Mask,
    frame: Frame,
    random: np.random.Generator,
    *,
    first_id: int = 1,
    tries: int = 400,
) -> list[Slump]:
    """Return slumps placed by a probability, none on another, all on ground that can fail.

    Parameters
    ----------
    areas : sequence of float
        Square metres. Large ones first, as they are hardest to place.
    probability : float32 array (rows, cols)
        Relative chance that a slump's head lies in a pixel.
    downhill : float32 array
        Direction of steepest descent, degrees clockwise from north, at a slump's scale.
    slope : float32 array
        Degrees, at a slump's scale.
    free : bool array
        Pixels that may be covered; taken ones are cleared **in place**.
    frame : Frame
    random : numpy Generator
    first_id : int
    tries : int
        Places looked at for one area before it is given up.
    """
    flat = np.cumsum(probability.ravel(), dtype=np.float64)
    total = float(flat[-1])
    placed: list[Slump] = []
    if total <= 0:
        return placed
    east, north = frame.centres()
    for area in areas:
        shape, parts, length = outline(float(area), random)
        for _ in range(tries):
            index = int(np.searchsorted(flat, random.uniform(0.0, total), side="right"))
            row, col = divmod(min(index, flat.size - 1), frame.shape[1])
            if not free[row, col]:
                continue
            course = float(downhill[row, col] + random.normal(0.0, 8.0)) % 360.0
            # The drawn pixel lies in the scar, a third of the length below the head.
            angle = np.radians(course)
            head = (
                float(east[col] - np.sin(angle) * length * 0.33),
                float(north[row] - np.cos(angle) * length * 0.33),
            )
            names = list(parts)
            there = [_to_map(parts[name], course, *head) for name in names]
            part_cover = cover(there, frame, head, course)
            window = part_cover.window
            inside = part_cover.shares.sum(axis=0) > 0
            if not free[window][inside].all():
                continue
            steep = slope[window][inside]
            if np.mean((steep >= SLOPES[0]) & (steep <= SLOPES[1])) < 0.97:
                continue
            if probability[window][inside].mean() < 0.25 * probability[row, col]:
                continue
            whole = Polygon(_to_map(shape, course, *head).exterior)
            placed.append(
                Slump(
                    id=first_id + len(placed),
                    outline=whole,
                    parts=dict(zip(names, there, strict=True)),
                    downhill=course,
                    length=length,
                    freshness=float(np.clip(random.beta(2.4, 1.5), 0.2, 0.97)),
                    grown=float(random.uniform(0.2, 0.45)) if random.uniform() < 0.5 else 0.0,
                    cover=part_cover,
                )
            )
            keep_off = ndimage.binary_dilation(np.pad(inside, 4), iterations=4)
            r0, c0 = part_cover.row - 4, part_cover.col - 4
            r1, c1 = r0 + keep_off.shape[0], c0 + keep_off.shape[1]
            clip = (slice(max(r0, 0), r1), slice(max(c0, 0), c1))
            keep_off = keep_off[max(-r0, 0) :, max(-c0, 0) :]
            part = free[clip]
            part &= ~keep_off[: part.shape[0], : part.shape[1]]
            break
    return placed


def carve(height: Array, slump: Slump, *, age: float = 1.0, depth: float | None = None) -> None:
    """Lower the scar and raise the tongue of one slump, **in place**.

    Parameters
    ----------
    height : float32 array (rows, cols)
        Metres.
    slump : Slump
    age : float
        Share of the scar, from its toe upwards, that exists (1: all of it).
    depth : float, optional
        Metres at the headwall; grows with the root of the area where not given.
    """
    cut = float(np.clip(0.045 * np.sqrt(slump.area), 1.5, 9.0)) if depth is None else depth
    wall, floor, tongue = slump.cover.shares
    down = slump.cover.down / max(slump.length, 1.0)
    # Headwall retreat: a younger scar has its head farther downhill.
    exists = np.clip((down - (1.0 - age) * 0.6) / 0.06, 0.0, 1.0) if age < 1 else 1.0
    profile = np.clip(1.0 - down / 0.75, 0.12, 1.0)
    change = -cut * (0.55 * wall + profile * floor) + 0.22 * cut * tongue * (1.3 - down)
    change = ndimage.gaussian_filter(change * exists, 0.6)
    height[slump.cover.window] += change.astype(np.float32)
