"""The valley as a whole: ground, cover and change of both years, before anything looks at it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from gee.valley import landcover, slumps, terrain
from gee.valley.landcover import DISTRACTORS, MATERIALS, Change
from gee.valley.noise import fractal, ranks
from gee.valley.place import MARGIN, PIXEL, Frame, grid, random
from gee.valley.slumps import Slump
from thawslump.vector import rasterize

__all__ = ["Landscape", "Year", "make"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

DENSITY = 3.05
"""Slumps per square kilometre asked for."""


@dataclass(frozen=True)
class Year:
    """What one summer finds.

    Attributes
    ----------
    height : float32 array (rows, cols)
        Metres, slumps as they are in that year.
    shares : float32 array (7, rows, cols)
        Share of each of `landcover.MATERIALS`; sums to 1.
    green : float32 array
        Share of the pixel that is green at the height of the season.
    melt : float32 array
        Day of the year on which the snow goes.
    shift : float32 array (2, rows, cols)
        Departure of VV and VH from what the materials alone would give, dB.
    """

    height: Array
    shares: Array
    green: Array
    melt: Array
    shift: Array


@dataclass(frozen=True)
class Landscape:
    """A made-up valley. All arrays are on `frame`: the catalogued area and `MARGIN` pixels around.

    Attributes
    ----------
    seed : int
    frame : Frame
    ground : float32 array
        Elevation before any slump of the inventory (old scars are in it), metres.
    dem : float32 array
        Elevation when the elevation model was flown, before the pre year, metres.
    ice : float32 array
        Volumetric ice content, 0..1.
    rock : uint8 array
        Lithology class, 1..5 (`landcover.LITHOLOGY`).
    stream, river, lake : bool arrays
    susceptibility : float32 array
        Expected share of a pixel that slumps cover under the process that placed them.
    slumps, scars : lists
        The inventory, and old stabilised scars that are not in it.
    distractors : uint8 array
        Codes of `landcover.DISTRACTORS`, 0 elsewhere.
    pre, post : Year
    texture : float32 array
        Brightness of the ground relative to its material, fixed over time.
    grain : float32 array (2, rows, cols)
        The same for VV and VH, dB.
    lines : dict
        Roads, railway, rivers and faults: lists of lines with names.
    """

    seed: int
    frame: Frame
    ground: Array
    dem: Array
    ice: Array
    rock: NDArray[np.uint8]
    stream: Mask
    river: Mask
    lake: Mask
    susceptibility: Array
    slumps: list[Slump] = field(repr=False)
    scars: list[Slump] = field(repr=False)
    distractors: NDArray[np.uint8]
    pre: Year
    post: Year
    texture: Array
    grain: Array
    lines: dict[str, list[tuple[str, BaseGeometry]]]

    @property
    def inner(self) -> tuple[slice, slice]:
        """Index of the catalogued area in the arrays."""
        return (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


def _to_line(course: NDArray[np.float64], frame: Frame, rows_long: bool) -> shapely.LineString:
    """Place a course (along, across) on the map: along is south, or east where that is longer."""
    along, across = course[:, 0], course[:, 1]
    if rows_long:
        return shapely.LineString(np.column_stack([frame.left + across, frame.top - along]))
    return shapely.LineString(np.column_stack([frame.left + along, frame.top - across]))


def _along(frame: Frame, rows_long: bool) -> Array:
    rows, cols = frame.shape
    way = np.arange(rows if rows_long else cols, dtype=np.float32) * np.float32(frame.pixel)
    return np.broadcast_to(way[:, None] if rows_long else way[None, :], frame.shape)


def make(seed: int, shape: tuple[int, int]) -> Landscape:
    """Return the landscape of a seed.

    Parameters
    ----------
    seed : int
    shape : (rows, cols)
        Of the catalogued area, 10 m pixels.

    Returns
    -------
    Landscape
        Equal for equal arguments.
    """
    frame = grid(shape).padded(MARGIN)
    rows_long = frame.shape[0] >= frame.shape[1]
    long_m = max(frame.shape) * PIXEL
    wide_m = min(frame.shape) * PIXEL

    # Relief: the floodplain is the base to which the hills drain.
    chance = random(seed, "river")
    centre = wide_m * chance.uniform(0.36, 0.46) * (1 if chance.uniform() < 0.5 else -1)
    centre = centre if centre > 0 else wide_m + centre
    course = terrain.meander(long_m, centre, chance)
    course_line = _to_line(course, frame, rows_long)
    river = rasterize([course_line.buffer(34.0)], frame.geobox).astype(bool)
    plain_half = min(240.0, wide_m * 0.07)
    ragged = fractal(frame.shape, random(seed, "plain"), pixel=PIXEL, longest=900.0, shortest=80.0)
    to_river = ndimage.distance_transform_edt(~river).astype(np.float32) * np.float32(PIXEL)
    plain = to_river < plain_half * (1.0 + 0.35 * ragged)
    coarse = 2 * PIXEL
    plain_coarse = plain[::2, ::2]
    steep = terrain.hills(plain_coarse.shape, random(seed, "hills"), coarse)
    water_ways = terrain.drain(plain_coarse, steep, coarse)
    rows, cols = frame.shape
    fit = (slice(0, rows), slice(0, cols))
    smooth = ndimage.zoom(water_ways.height, 2, order=1, grid_mode=True, mode="nearest")[fit]
    area = np.repeat(np.repeat(water_ways.area, 2, axis=0), 2, axis=1)[fit]
    crag = np.clip(
        (ndimage.zoom(steep, 2, order=1, grid_mode=True, mode="nearest")[fit] - 0.3) / 0.2, 0, 1
    )
    ground = (1 - crag) * terrain.relax(smooth, PIXEL, 38.0) + crag * terrain.relax(
        smooth, PIXEL, 12.0
    )
    ground = ground + 0.45 * fractal(
        frame.shape, random(seed, "ground"), pixel=PIXEL, longest=350.0, slope=3.2
    ) * np.clip(to_river / 400.0, 0.25, 1.0)
    ground = ground + 14.0 + 0.0009 * (long_m - _along(frame, rows_long))
    bank = np.clip((to_river - 5.0) / 30.0, 0.0, 1.0)
    bed = 12.2 + 0.0009 * (long_m - _along(frame, rows_long))
    ground = np.asarray(bank * ground + (1.0 - bank) * bed, np.float32)
    stream = (area > 1.2e5) & ~plain

    # Lakes: on flat ground, and old river arms on the floodplain.
    chance = random(seed, "lakes")
    slope = terrain.slope_degrees(terrain.relax(ground, PIXEL, 30.0), PIXEL)
    east, north = frame.centres()
    lake_masks: list[Mask] = []
    taken = to_river < 90.0
    wanted = max(2, round(0.30 * rows * cols * PIXEL**2 / 1e6))
    for _ in range(wanted * 40):
        if len(lake_masks) >= wanted:
            break
        row, col = int(chance.integers(8, rows - 8)), int(chance.integers(8, cols - 8))
        radius = float(np.clip(np.exp(chance.normal(4.25, 0.45)), 35.0, 230.0))
        if slope[row, col] > 1.8 or taken[row, col]:
            continue
        edge = terrain.lake_outline(radius, chance) + np.array([east[col], north[row]])
        mask = rasterize([shapely.Polygon(edge).buffer(0)], frame.geobox).astype(bool)
        if not mask.any() or taken[mask].any() or np.percentile(slope[mask], 90) > 3.2:
            continue
        lake_masks.append(mask)
        taken |= ndimage.binary_dilation(mask, iterations=14)
    old_course = terrain.meander(long_m, centre, random(seed, "old river"), wavelength=1100.0)
    arm = 0
    while arm < old_course.shape[0]:
        piece = old_course[arm : arm + int(chance.integers(28, 70))]
        arm += int(chance.integers(180, 420))
        if len(piece) < 12:
            continue
        shape_of_arm = _to_line(piece, frame, rows_long).buffer(22.0)
        mask = rasterize([shape_of_arm], frame.geobox).astype(bool)
        if mask.sum() < 20 or taken[mask].any() or not plain[mask].all():
            continue
        lake_masks.append(mask)
        taken |= ndimage.binary_dilation(mask, iterations=8)
    ground = terrain.settle(ground, lake_masks, PIXEL)
    lake = np.zeros(frame.shape, bool)
    for mask in lake_masks:
        lake |= mask

    # What lies under it.
    mood = fractal(frame.shape, random(seed, "ice"), pixel=PIXEL, longest=1800.0, slope=3.4)
    slope = terrain.slope_degrees(terrain.relax(ground, PIXEL, 30.0), PIXEL)
    height = ground - bed
    ice = np.clip(
        0.52 + 0.17 * mood - 0.012 * np.maximum(slope - 8.0, 0.0) - 0.35 * crag, 0.02, 0.9
    )
    ice = np.where(plain, 0.45 * ice, ice).astype(np.float32)
    belt = fractal(frame.shape, random(seed, "rock"), pixel=PIXEL, longest=4000.0, shortest=300.0)
    rock = landcover.lithology(belt, crag, plain, ice)

    # Where it fails, and with it what merely looks so.
    wide = terrain.relax(ground, PIXEL, 40.0)
    slope_wide = terrain.slope_degrees(wide, PIXEL)
    aspect_wide = terrain.aspect_degrees(wide, PIXEL)
    water = river | lake
    shore = ndimage.distance_transform_edt(~(water | stream)).astype(np.float32) * np.float32(PIXEL)
    ruled_out = (
        ndimage.binary_dilation(water, iterations=2)
        | ndimage.binary_dilation(plain, iterations=2)
        | (crag > 0.5)
    )
    relative = slumps.susceptibility(slope_wide, aspect_wide, ice, height, shore, ruled_out)
    inner = np.zeros(frame.shape, bool)
    inner[MARGIN + 3 : -MARGIN - 3, MARGIN + 3 : -MARGIN - 3] = True
    free = inner & ~ruled_out
    chance = random(seed, "slumps")
    count = max(8, round(DENSITY * shape[0] * shape[1] * PIXEL**2 / 1e6))
    areas = slumps.power_law(count, chance)
    found = slumps.place(
        areas, np.where(inner, relative, 0.0), aspect_wide, slope_wide, free, frame, chance
    )
    covered = sum(slump.area for slump in found)
    susceptibility = relative * np.float32(
        covered / max(float(relative[inner].sum()) * PIXEL**2, 1e-9)
    )
    chance = random(seed, "scars")
    scars = slumps.place(
        slumps.power_law(max(4, round(0.45 * count)), chance, largest=60_000.0),
        np.where(inner, np.sqrt(relative), 0.0),
        aspect_wide,
        slope_wide,
        free,
        frame,
        chance,
        first_id=len(found) + 1,
    )

    for scar in scars:
        slumps.carve(ground, scar, depth=0.6 * float(np.clip(0.045 * scar.area**0.5, 1.5, 9.0)))
    dem, before, after = ground.copy(), ground.copy(), ground.copy()
    for slump in found:
        if slump.grown > 0:
            slumps.carve(dem, slump, age=slump.grown)
            slumps.carve(before, slump, age=slump.grown)
        slumps.carve(after, slump)

    # Cover and its change.
    scene = landcover.Ground(
        frame=frame,
        slope=slope,
        height=height.astype(np.float32),
        aspect=aspect_wide,
        area=area,
        to_river=to_river,
        plain=plain,
        river=river,
        lakes=lake_masks,
        crag=np.asarray(crag, np.float32),
        stream=stream,
        ice=ice,
        course=course_line,
        free=free,
    )
    shares, green, melt = landcover.summer(scene, seed)
    change: Change = landcover.change(scene, shares, green, melt, found, scars, seed)

    faults = landcover.faults(frame, random(seed, "faults"))
    roads = landcover.roads(frame, course_line, plain_half, rows_long, random(seed, "roads"))
    streams = landcover.stream_lines(stream, frame)
    texture = 1.0 + 0.06 * fractal(
        frame.shape, random(seed, "texture"), pixel=PIXEL, longest=150.0, slope=1.6
    )
    grain = np.stack(
        [
            0.75
            * fractal(frame.shape, random(seed, "grain", p), pixel=PIXEL, longest=120.0, slope=1.6)
            for p in ("VV", "VH")
        ]
    )
    # Ice shows a little in cover: polygons and drained ponds roughen wet ground.
    grain[1] += 0.25 * (ranks(mood) - 0.5)
    assert len(MATERIALS) == shares.shape[0] and change.codes.max() <= max(DISTRACTORS.values())
    return Landscape(
        seed=seed,
        frame=frame,
        ground=ground,
        dem=dem,
        ice=ice,
        rock=rock,
        stream=stream,
        river=river,
        lake=lake,
        susceptibility=np.asarray(susceptibility, np.float32),
        slumps=found,
        scars=scars,
        distractors=change.codes,
        pre=Year(before, change.shares_pre, change.green_pre, change.melt_pre, change.shift_pre),
        post=Year(
            after, change.shares_post, change.green_post, change.melt_post, change.shift_post
        ),
        texture=np.asarray(texture, np.float32),
        grain=np.asarray(grain, np.float32),
        lines={"rivers": [("main river", course_line), *streams], "faults": faults, "roads": roads},
    )


def shifted(line: BaseGeometry, east: float, north: float) -> BaseGeometry:
    """Return a line moved by metres."""
    return affinity.translate(line, east, north)
