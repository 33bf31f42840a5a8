"""What covers the ground, what changes between the summers, and what only looks like a slump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage, special
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from gee.valley.noise import fractal
from gee.valley.place import PIXEL, Frame, random
from gee.valley.slumps import Slump
from thawslump.vector import rasterize

__all__ = [
    "DISTRACTORS",
    "LITHOLOGY",
    "MATERIALS",
    "WORLDCOVER",
    "Change",
    "Ground",
    "change",
    "faults",
    "lithology",
    "roads",
    "stream_lines",
    "summer",
    "worldcover",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Lines = list[tuple[str, BaseGeometry]]

MATERIALS = ("tundra", "shrub", "sedge", "gravel", "mud", "rock", "water")
TUNDRA, SHRUB, SEDGE, GRAVEL, MUD, ROCK, WATER = range(7)

DISTRACTORS = {
    "fresh alluvium": 1,
    "pasture": 2,
    "lake drawdown": 3,
    "drained lake": 4,
    "late snow": 5,
    "old scar": 6,
}
"""Codes of what looks like a slump and is none (truth/distractors.tif)."""

LITHOLOGY = {
    1: "ice-rich silt",
    2: "till",
    3: "alluvium",
    4: "sandstone",
    5: "slate",
}

WORLDCOVER = {
    20: "shrubland",
    30: "grassland",
    60: "bare or sparse vegetation",
    80: "permanent water bodies",
    90: "herbaceous wetland",
    100: "moss and lichen",
}
"""The classes of ESA WorldCover that occur here."""


@dataclass(frozen=True)
class Ground:
    """What land cover follows from; arrays of one shape on `frame`.

    Attributes
    ----------
    slope, aspect : degrees
    height : metres above the river
    area : upslope area in square metres
    to_river : metres
    plain, river, stream, free : bool
        `free` is what slumps have left; taken places are cleared in place.
    lakes : list of bool arrays
    crag : 0 soil to 1 rock
    ice : volumetric share
    course : line of the river
    """

    frame: Frame
    slope: Array
    height: Array
    aspect: Array
    area: Array
    to_river: Array
    plain: Mask
    river: Mask
    lakes: Sequence[Mask]
    crag: Array
    stream: Mask
    ice: Array
    course: shapely.LineString
    free: Mask


@dataclass(frozen=True)
class Change:
    """Cover of the two years; fields as in `landscape.Year`, and the codes of the distractors."""

    codes: NDArray[np.uint8]
    shares_pre: Array
    shares_post: Array
    green_pre: Array
    green_post: Array
    melt_pre: Array
    melt_post: Array
    shift_pre: Array
    shift_post: Array


def _sigmoid(x: Array | np.ndarray) -> Array:
    return np.asarray(special.expit(x), np.float32)


def _soften(mask: Mask | Array, pixels: float = 0.55) -> Array:
    """Return area shares from a mask: edges mixed as a sensor mixes them."""
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), pixels), np.float32)


def lithology(belt: Array, crag: Array, plain: Mask, ice: Array) -> NDArray[np.uint8]:
    """Return lithology classes (`LITHOLOGY`), uint8."""
    out = np.where(belt > 0.2, 4, 5)
    out = np.where((crag < 0.2) & (ice < 0.45), 2, out)
    out = np.where((crag < 0.2) & (ice >= 0.45), 1, out)
    return np.where(plain, 3, out).astype(np.uint8)


def worldcover(shares: Array, green: Array) -> NDArray[np.uint8]:
    """Return the WorldCover class of every pixel, uint8 (a map of one year, without error).

    Parameters
    ----------
    shares : float32 array (7, rows, cols)
    green : float32 array (rows, cols)

    Examples
    --------
    >>> shares = np.zeros((7, 1, 2), "float32"); shares[WATER, 0, 0] = 1; shares[SHRUB, 0, 1] = 1
    >>> worldcover(shares, np.array([[0.0, 0.8]], "float32")).tolist()
    [[80, 20]]
    """
    bare = shares[GRAVEL] + shares[MUD] + shares[ROCK]
    out = np.full(green.shape, 30, np.uint8)
    out[shares[SEDGE] > 0.5] = 90
    out[green < 0.5] = 100
    out[shares[SHRUB] > 0.45] = 20
    out[bare > 0.5] = 60
    out[shares[WATER] > 0.5] = 80
    return out


def summer(ground: Ground, seed: int) -> tuple[Array, Array, Array]:
    """Return shares of materials, greenness and snow-melt day of an ordinary summer.

    Parameters
    ----------
    ground : Ground
    seed : int

    Returns
    -------
    shares : float32 array (7, rows, cols)
        Sum 1 in every pixel.
    green : float32 array (rows, cols)
        Green share at the height of the season.
    melt : float32 array (rows, cols)
        Day of the year.
    """
    frame = ground.frame
    shape = frame.shape

    def noise(name: str, longest: float, slope: float = 2.6) -> Array:
        return fractal(shape, random(seed, name), pixel=PIXEL, longest=longest, slope=slope)

    lake = np.zeros(shape, bool)
    for mask in ground.lakes:
        lake |= mask
    water = np.maximum(_soften(ground.river), _soften(lake))
    by_lake = ndimage.distance_transform_edt(~lake).astype(np.float32) * np.float32(PIXEL)
    bars = _sigmoid((34.0 + 26.0 * noise("bars", 250.0) - ground.to_river) / 7.0)
    bars *= _sigmoid(3.0 * noise("bar places", 700.0) - 0.3)
    wetness = np.log(ground.area / np.maximum(np.tan(np.radians(ground.slope)), 0.02))
    wetness = ndimage.gaussian_filter(wetness, 2.0)
    wet = _sigmoid((wetness - 10.8) / 0.9 + 0.9 * noise("wet", 400.0))
    wet = np.maximum(wet, _sigmoid((45.0 - by_lake) / 12.0) * 0.8)
    flat = _sigmoid((4.0 - ground.slope) / 1.0)
    wet = wet * np.clip(flat + 0.2, 0.0, 1.0)
    by_stream = ndimage.distance_transform_edt(~ground.stream).astype(np.float32) * np.float32(
        PIXEL
    )
    shrub = _sigmoid((38.0 - by_stream) / 12.0) + 0.8 * ground.plain * _sigmoid(
        (120.0 - ground.to_river) / 30.0 + noise("levee", 300.0)
    )
    south = -np.cos(np.radians(ground.aspect))
    shrub = shrub + 0.55 * _sigmoid(
        2.0 * noise("shrub", 500.0) + south - 1.6 - ground.height / 90.0
    )
    shrub = np.clip(shrub, 0.0, 0.95)
    rock = np.clip(
        ground.crag
        + 0.9 * _sigmoid((ground.slope - 21.0) / 2.2)
        + 0.7 * _sigmoid((ground.height - 125.0) / 12.0 + 1.3 * noise("fell", 350.0)),
        0.0,
        0.95,
    )
    mud = np.clip(0.06 + 0.045 * noise("boils", 90.0, 1.8), 0.0, 0.3)

    shares = np.zeros((7, *shape), np.float32)
    left = 1.0 - water
    shares[WATER] = water
    for index, part in ((GRAVEL, bars), (ROCK, rock), (MUD, mud), (SEDGE, wet), (SHRUB, shrub)):
        shares[index] = left * part
        left = left - shares[index]
    shares[TUNDRA] = left

    lush = 0.74 * shares[TUNDRA] + 0.92 * shares[SHRUB] + 0.78 * shares[SEDGE]
    vigour = 1.0 + 0.085 * noise("vigour", 350.0) + 0.045 * noise("tussocks", 40.0, 1.2)
    vigour = vigour * (1.0 - 0.0012 * np.maximum(ground.height, 0.0))
    green = np.clip(lush * vigour, 0.0, shares[[TUNDRA, SHRUB, SEDGE]].sum(axis=0))

    # Snow lies longer where the wind drops it: hollows and slopes that face away from the west.
    lee = np.cos(np.radians(ground.aspect - 90.0)) * np.clip(ground.slope / 12.0, 0.0, 1.5)
    melt = 153.0 + 0.05 * ground.height + 3.0 * lee + 2.5 * noise("drifts", 200.0)
    return shares, np.asarray(green, np.float32), np.asarray(melt, np.float32)


def _bare(shares: Array, green: Array, loss: Array, into: Sequence[tuple[int, float]]) -> None:
    """Turn a share of the vegetation into other materials, **in place**."""
    plants = [TUNDRA, SHRUB, SEDGE]
    gone = shares[plants].sum(axis=0) * loss
    shares[plants] *= 1.0 - loss
    for index, part in into:
        shares[index] += gone * np.float32(part)
    green *= 1.0 - loss


def _burn(shape: BaseGeometry, frame: Frame) -> tuple[tuple[slice, slice], Array]:
    """Return a window and the softened cover of a shape in it."""
    west, south, east, north = shape.bounds
    col0 = max(int((west - frame.left) // PIXEL) - 3, 0)
    row0 = max(int((frame.top - north) // PIXEL) - 3, 0)
    col1 = min(int((east - frame.left) // PIXEL) + 4, frame.shape[1])
    row1 = min(int((frame.top - south) // PIXEL) + 4, frame.shape[0])
    if col1 <= col0 or row1 <= row0:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    small = Frame(
        (row1 - row0, col1 - col0), PIXEL, frame.left + col0 * PIXEL, frame.top - row0 * PIXEL
    )
    burned = rasterize([shape], small.geobox).astype(bool)
    return (slice(row0, row1), slice(col0, col1)), _soften(burned, 0.6)


def change(
    ground: Ground,
    shares: Array,
    green: Array,
    melt: Array,
    found: Sequence[Slump],
    scars: Sequence[Slump],
    seed: int,
) -> Change:
    """Return the two summers: slumps and their look-alikes, on top of ordinary variation.

    Parameters
    ----------
    ground : Ground
        `free` is changed in place.
    shares, green, melt : arrays
        An ordinary summer (`summer`).
    found, scars : lists of Slump
    seed : int

    Returns
    -------
    Change
    """
    frame = ground.frame
    shape = frame.shape
    codes = np.zeros(shape, np.uint8)
    pre, post = shares.copy(), shares.copy()
    green_pre, green_post = green.copy(), green.copy()
    melt_pre, melt_post = melt.copy(), melt + np.float32(2.0)
    shift_pre = np.zeros((2, *shape), np.float32)
    shift_post = np.zeros((2, *shape), np.float32)

    def noise(name: str, longest: float, slope: float = 2.6, shortest: float = 0.0) -> Array:
        return fractal(
            shape, random(seed, name), pixel=PIXEL, longest=longest, slope=slope, shortest=shortest
        )

    # Slumps. Rafts of turf ride down on them, so bareness is patchy within.
    rafts = np.clip(0.86 + 0.24 * noise("rafts", 60.0, 1.6), 0.15, 1.0)
    chance = random(seed, "slump looks")
    for slump in found:
        window = slump.cover.window
        wall, floor, tongue = slump.cover.shares
        loss = slump.freshness * np.clip(
            rafts[window] * (0.92 * wall + 0.88 * floor + 0.55 * tongue), 0.0, 1.0
        )
        old = np.zeros_like(loss)
        if slump.grown > 0:
            lower = np.clip(
                (slump.cover.down / slump.length - 0.6 * (1.0 - slump.grown)) / 0.06, 0.0, 1.0
            )
            old = 0.55 * loss * lower
        _bare(pre[:, *window], green_pre[window], old, ((MUD, 1.0),))
        _bare(post[:, *window], green_post[window], loss, ((MUD, 1.0),))
        # Blocks, cracks and meltwater: rougher and wetter than mud in general, or smoothed by flow.
        whole = slump.cover.shares.sum(axis=0) * slump.freshness
        shift_post[0][window] += whole * np.float32(chance.normal(0.8, 0.65))
        shift_post[1][window] += whole * np.float32(chance.normal(0.7, 0.6))

    # Old scars: bare in both summers, growing over slowly.
    chance = random(seed, "scar looks")
    for scar in scars:
        window = scar.cover.window
        wall, floor, tongue = scar.cover.shares
        fresh = chance.uniform(0.15, 0.6)
        loss = fresh * np.clip(rafts[window] * (0.9 * wall + 0.9 * floor + 0.4 * tongue), 0.0, 1.0)
        _bare(pre[:, *window], green_pre[window], loss, ((MUD, 1.0),))
        later = loss * chance.uniform(0.75, 1.12)
        _bare(post[:, *window], green_post[window], np.minimum(later, 1.0), ((MUD, 1.0),))
        codes[window][scar.cover.shares.sum(axis=0) > 0.05] = DISTRACTORS["old scar"]

    slump_area = max(sum(slump.area for slump in found), 1e4)

    # Fresh alluvium: floods of the years between left bars and sheets of silt along the river.
    chance = random(seed, "alluvium")
    wanted, laid = 0.5 * slump_area, 0.0
    river_soft = _soften(ground.river)
    course = np.asarray(ground.course.coords)
    sheets = _sigmoid(5.0 * noise("sheets", 130.0) + 2.5)
    step = ground.course.length / (len(course) - 1)
    for _ in range(4000):
        if laid > wanted:
            break
        start = int(chance.integers(0, len(course) - 12))
        reach = float(np.clip(np.exp(chance.normal(5.1, 0.45)), 70.0, 420.0))
        piece = shapely.LineString(course[start : start + max(8, int(reach / step))])
        side = 1.0 if chance.uniform() < 0.5 else -1.0
        off = chance.uniform(30.0, 130.0)
        wide = chance.uniform(10.0, 48.0)
        bank = piece.parallel_offset(off, "left" if side > 0 else "right")
        if bank.is_empty or not bank.is_simple:
            continue
        window, part = _burn(bank.buffer(wide), frame)
        if part.size == 0:
            continue
        part = part * ground.plain[window] * (1.0 - river_soft[window]) * sheets[window]
        inside = part > 0.3
        if not inside.any() or (codes[window][inside] > 0).mean() > 0.1:
            continue
        loss = part * chance.uniform(0.45, 0.95) * np.clip(rafts[window] + 0.05, 0, 1)
        _bare(post[:, *window], green_post[window], loss, ((GRAVEL, 0.55), (MUD, 0.45)))
        codes[window][part > 0.05] = DISTRACTORS["fresh alluvium"]
        laid += float(inside.sum()) * PIXEL**2

    # Pasture: fenced fields cut or grazed to the ground in the later year, and open grazing.
    chance = random(seed, "pasture")
    wanted, laid = 1.05 * slump_area, 0.0
    free = ground.free & ~ground.plain & (codes == 0) & (ground.slope < 16.0) & (ground.crag < 0.2)
    east, north = frame.centres()
    for _ in range(6000):
        if laid > wanted:
            break
        row, col = int(chance.integers(0, shape[0])), int(chance.integers(0, shape[1]))
        if not free[row, col]:
            continue
        side = float(np.clip(np.exp(chance.normal(4.75, 0.45)), 45.0, 320.0))
        ratio = chance.uniform(1.0, 2.4)
        field: BaseGeometry = shapely.box(-side / 2, -side / 2 / ratio, side / 2, side / 2 / ratio)
        field = affinity.skew(field, chance.uniform(-18.0, 18.0))
        field = affinity.rotate(field, chance.uniform(0.0, 180.0), origin=(0, 0))
        field = affinity.translate(field, float(east[col]), float(north[row]))
        window, part = _burn(field, frame)
        if part.size == 0 or not free[window][part > 0.05].all():
            continue
        loss = part * chance.beta(2.4, 2.0) * np.clip(rafts[window] + 0.02, 0.0, 1.0)
        _bare(post[:, *window], green_post[window], loss, ((MUD, 0.55), (TUNDRA, 0.45)))
        # Trodden ground is smoother and drier.
        shift_post[0][window] -= part * np.float32(chance.normal(0.75, 0.55))
        shift_post[1][window] -= part * np.float32(chance.normal(0.75, 0.55))
        codes[window][part > 0.05] = DISTRACTORS["pasture"]
        free[window][part > 0.02] = False
        laid += float((part > 0.5).sum()) * PIXEL**2
    herd = noise("herd", 300.0, 3.2, 60.0)
    grazed = 0.36 * _sigmoid((herd - 1.9) / 0.2)
    grazed = grazed * _soften(free & (ground.slope > 0.5), 2.0)
    _bare(post, green_post, np.asarray(grazed, np.float32), ((MUD, 0.5), (TUNDRA, 0.5)))
    shift_post -= np.float32(0.8) * grazed
    codes[(grazed > 0.04) & (codes == 0)] = DISTRACTORS["pasture"]

    # Lakes: a belt of sedge dries to mud at some, one in eight has drained altogether.
    chance = random(seed, "lake change")
    for mask in ground.lakes:
        draw = chance.uniform()
        if draw < 0.45:
            away = ndimage.distance_transform_edt(~mask) * PIXEL
            inward = ndimage.distance_transform_edt(mask) * PIXEL
            wide = chance.uniform(16.0, 45.0)
            belt = _soften(
                (away < wide * (0.75 + 0.5 * rafts)) & (inward < wide * 0.5) & ~ground.river
            )
            belt = np.where(codes == 0, belt, 0.0).astype(np.float32)
            keep = 1.0 - belt
            for each, sedge, mud in ((pre, 0.75, 0.05), (post, 0.2, 0.75)):
                each *= keep
                each[SEDGE] += belt * np.float32(sedge)
                each[MUD] += belt * np.float32(mud)
                each[WATER] += belt * np.float32(1.0 - sedge - mud)
            green_pre[:] = green_pre * keep + belt * np.float32(0.62)
            green_post[:] = green_post * keep + belt * np.float32(0.13)
            codes[belt > 0.05] = DISTRACTORS["lake drawdown"]
        elif draw < 0.58:
            drained = np.where(codes == 0, _soften(mask), 0.0).astype(np.float32)
            post *= 1.0 - drained
            post[MUD] += drained * np.float32(0.7)
            post[SEDGE] += drained * np.float32(0.3)
            green_post[:] = green_post * (1.0 - drained) + drained * np.float32(0.2)
            codes[drained > 0.05] = DISTRACTORS["drained lake"]

    # Snow patches that stayed into the later summer and shortened the season under them.
    chance = random(seed, "snow patches")
    free = ground.free & ~ground.plain & (codes == 0) & (ground.slope > 2.0)
    wanted, laid = 0.45 * slump_area, 0.0
    for _ in range(6000):
        if laid > wanted:
            break
        row, col = int(chance.integers(0, shape[0])), int(chance.integers(0, shape[1]))
        if not free[row, col] or np.cos(np.radians(ground.aspect[row, col] - 60.0)) < 0.0:
            continue
        long = float(np.clip(np.exp(chance.normal(4.4, 0.4)), 40.0, 260.0))
        edge = shapely.Point(0, 0).buffer(1.0)
        patch = affinity.scale(edge, long, long * chance.uniform(0.25, 0.5), origin=(0, 0))
        along = 90.0 - (ground.aspect[row, col] + 90.0) + chance.normal(0.0, 10.0)
        patch = affinity.rotate(patch, float(along), origin=(0, 0))
        patch = affinity.translate(patch, float(east[col]), float(north[row]))
        window, part = _burn(patch, frame)
        if part.size == 0 or not free[window][part > 0.05].all():
            continue
        part = _soften(part, 1.0)
        late = float(chance.uniform(48.0, 84.0))
        melt_post[window] += part * np.float32(late)
        melt_pre[window] += part * np.float32(chance.uniform(8.0, 22.0))
        codes[window][part > 0.05] = DISTRACTORS["late snow"]
        free[window][part > 0.02] = False
        laid += float((part > 0.5).sum()) * PIXEL**2

    # No two summers are equal: wet and dry years, and every plant of its own.
    for name, leaves in (("pre", green_pre), ("post", green_post)):
        leaves *= (
            1.0 + 0.06 * noise(f"{name} year", 400.0) + 0.085 * noise(f"{name} plants", 20.0, 0.5)
        )
    for each, leaves in ((pre, green_pre), (post, green_post)):
        np.clip(leaves, 0.0, each[[TUNDRA, SHRUB, SEDGE]].sum(axis=0), out=leaves)
    for name, shift in (("pre", shift_pre), ("post", shift_post)):
        moist = noise(f"{name} moisture", 600.0)
        # Small-scale change of roughness from year to year: what a pixel alone cannot tell apart.
        shift[0] += np.float32(0.35) * moist + np.float32(0.9) * noise(f"{name} VV", 25.0, 0.5)
        shift[1] += np.float32(0.22) * moist + np.float32(0.9) * noise(f"{name} VH", 25.0, 0.5)
    return Change(
        codes, pre, post, green_pre, green_post, melt_pre, melt_post, shift_pre, shift_post
    )


def faults(frame: Frame, chance: np.random.Generator) -> Lines:
    """Return three fault traces across the valley, as named lines in its CRS."""
    rows, cols = frame.shape
    high, wide = rows * frame.pixel, cols * frame.pixel
    lines: Lines = []
    for index in range(3):
        y0, y1 = frame.top - chance.uniform(0.05, 0.95, 2) * high
        x = np.linspace(frame.left, frame.left + wide, 12)
        y = np.linspace(y0, y1, 12) + np.cumsum(chance.normal(0.0, wide * 0.012, 12))
        lines.append((f"fault {index + 1}", shapely.LineString(np.column_stack([x, y]))))
    return lines


def roads(
    frame: Frame,
    course: shapely.LineString,
    half: float,
    rows_long: bool,
    chance: np.random.Generator,
) -> Lines:
    """Return a road and a railway along the valley and a track across it, named."""
    spine = np.asarray(course.simplify(250.0).coords)
    if len(spine) > 8:
        spine = spine[:: max(1, len(spine) // 8)]
    lines: Lines = []
    for name, off in (("road", half * 1.35), ("railway", half * 1.6)):
        moved = spine.copy()
        moved[:, 0 if rows_long else 1] += off
        lines.append((name, shapely.LineString(moved).segmentize(200.0)))
    rows, cols = frame.shape
    y = frame.top - chance.uniform(0.3, 0.7) * rows * frame.pixel
    x = np.linspace(frame.left, frame.left + cols * frame.pixel, 10)
    track = np.column_stack([x, y + np.cumsum(chance.normal(0.0, 60.0, 10))])
    lines.append(("track", shapely.LineString(track)))
    return lines


def stream_lines(stream: Mask, frame: Frame) -> Lines:
    """Return the streams as lines between the centres of their pixels, named by their number."""
    from skimage.morphology import skeletonize

    thin = skeletonize(stream)
    rows, cols = np.nonzero(thin)
    east, north = frame.centres()
    index = -np.ones(frame.shape, np.int64)
    index[rows, cols] = np.arange(rows.size)
    pieces = []
    for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
        r, c = rows + dr, cols + dc
        ok = (r >= 0) & (r < frame.shape[0]) & (c >= 0) & (c < frame.shape[1])
        ok[ok] &= thin[r[ok], c[ok]]
        if dr and dc:  # a diagonal only where no straight way leads round the corner
            ok[ok] &= ~thin[rows[ok], c[ok]] & ~thin[r[ok], cols[ok]]
        first = np.column_stack([east[cols[ok]], north[rows[ok]]])
        second = np.column_stack([east[c[ok]], north[r[ok]]])
        pieces.append(np.stack([first, second], axis=1))
    segments = np.concatenate(pieces)
    if not len(segments):
        return []
    merged = shapely.line_merge(shapely.multilinestrings([shapely.linestrings(segments)])[0])
    lines = [line.simplify(8.0) for line in shapely.get_parts(merged) if line.length > 150.0]
    lines.sort(key=lambda line: (-line.length, line.bounds))
    return [(f"stream {number + 1}", line) for number, line in enumerate(lines)]
