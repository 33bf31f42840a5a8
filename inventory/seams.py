"""Outlines of an area that lies in several UTM zones: each once, and none cut at a meridian.

Both zones of a meridian are predicted a little beyond it, on grids of their own, so a slump near it
is seen twice, not quite alike. Who answers for a place is settled by the meridian: what a zone sees
beyond is cut off, and what touches at the cut is one outline again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from inventory.candidates import Outline

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.areas import Mosaic

__all__ = ["MARGIN", "Found", "columns_of", "join"]

MARGIN = 32
"""Pixels beyond a meridian that outlines are drawn in before they are cut at it."""

_OVERLAP = 1.0
"""Pixels by which the two sides of a cut overlap, so that stairs of pixels leave no gap."""


@dataclass(frozen=True)
class Found:
    """The outlines of a zone.

    Attributes
    ----------
    mosaic : Mosaic
    grid : GeoBox
    outlines : sequence of Outline
        In the CRS of the grid.
    """

    mosaic: Mosaic
    grid: GeoBox
    outlines: Sequence[Outline]


def columns_of(
    mosaic: Mosaic, grid: GeoBox, first: int, last: int, margin: float = MARGIN
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the columns of some rows that a zone draws outlines in.

    Parameters
    ----------
    mosaic : Mosaic
    grid : GeoBox
        Of its map.
    first, last : int
        Rows.
    margin : float
        Pixels beyond the meridians.

    Returns
    -------
    start, stop : ndarray of int64, shape (last - first,)
    """
    a = grid.transform
    ys = a.f + (np.arange(first, last) + 0.5) * a.e
    start = np.zeros(ys.shape, dtype="int64")
    stop = np.full(ys.shape, grid.shape[1], dtype="int64")
    if mosaic.inner[0]:
        at = (mosaic.meridian(0, ys) - a.c) / a.a - margin
        # A pixel belongs to the side that its centre lies on.
        start = np.clip(np.ceil(at - 0.5), 0, grid.shape[1]).astype("int64")
    if mosaic.inner[1]:
        at = (mosaic.meridian(1, ys) - a.c) / a.a + margin
        stop = np.clip(np.ceil(at - 0.5), 0, grid.shape[1]).astype("int64")
    return start, stop


def join(zones: Sequence[Found], *, minimum_area: float) -> list[tuple[GeoBox, list[Outline]]]:
    """Return the outlines of an area, each once.

    Parameters
    ----------
    zones : sequence of Found
        From west to east, as `thawslump.areas.mosaics` gives them.
    minimum_area : float
        In square units of the CRS: what is smaller after the cut is left out.

    Returns
    -------
    list of (GeoBox, list of Outline)
        Per zone, in the zone's CRS. A joined outline belongs to the western zone; its values are
        means of the pieces' weighted by their area, its highest probability theirs.
    """
    whole: list[list[Outline]] = []
    # Of each zone, what reaches the margin of its west, and of its east.
    pieces: list[tuple[list[Outline], list[Outline]]] = []
    for number, zone in enumerate(zones):
        # A zone that was not mapped yet takes nothing from its neighbour.
        beside = (
            number > 0 and zones[number - 1].mosaic.own[2] == zone.mosaic.own[0],
            number + 1 < len(zones) and zones[number + 1].mosaic.own[0] == zone.mosaic.own[2],
        )
        sides = [_cut(zone, side) if beside[side] else None for side in (0, 1)]
        inside: list[Outline] = []
        near: tuple[list[Outline], list[Outline]] = ([], [])
        for outline in zone.outlines:
            at = [
                i for i, cut in enumerate(sides) if cut is not None and cut.near(outline.geometry)
            ]
            (near[at[0]] if at else inside).append(outline)
        whole.append(inside)
        pieces.append(near)
    for number in range(len(zones) - 1):
        left, right = zones[number], zones[number + 1]
        if left.mosaic.own[2] != right.mosaic.own[0]:
            continue
        found = _joined(left, pieces[number][1], right, pieces[number + 1][0], minimum_area)
        whole[number] = sorted([*whole[number], *found], key=_place)
    return [(zone.grid, outlines) for zone, outlines in zip(zones, whole, strict=True)]


def _place(outline: Outline) -> tuple[float, float]:
    west, _, _, north = outline.geometry.bounds
    return (-north, west)


@dataclass(frozen=True)
class _Cut:
    """The meridian at one side of a zone, in the zone's CRS."""

    line: NDArray[np.float64]
    size: float
    side: int

    def near(self, shape: BaseGeometry) -> bool:
        """Return whether a shape may reach what the neighbour draws too."""
        west, south, east, north = shape.bounds
        xs = np.interp([south, (south + north) / 2, north], self.line[:, 1], self.line[:, 0])
        # Twice the margin: the neighbour's margin ends on its own grid, which is turned.
        reach = 2 * MARGIN * self.size
        return bool(west < xs.max() + reach if self.side == 0 else east > xs.min() - reach)


def _cut(zone: Found, side: int) -> _Cut | None:
    if not zone.mosaic.inner[side]:
        return None
    box = zone.grid.boundingbox
    ys = np.linspace(box.bottom, box.top, max(2, int((box.top - box.bottom) / 500.0) + 2))
    line = np.stack([zone.mosaic.meridian(side, ys), ys], axis=1)
    return _Cut(line, zone.mosaic.resolution, side)


def _half(line: NDArray[np.float64], shift: float, edge: float) -> Polygon:
    """Return what lies between a line that runs up the grid, moved sideways, and an edge."""
    moved = line + np.array([shift, 0.0])
    corners = [(edge, moved[-1, 1]), (edge, moved[0, 1])]
    return Polygon([*map(tuple, moved), *corners])


def _joined(
    left: Found,
    western: Sequence[Outline],
    right: Found,
    eastern: Sequence[Outline],
    minimum_area: float,
) -> list[Outline]:
    cut = _cut(left, 1)
    assert cut is not None  # the caller asked
    move = _transform(str(right.grid.crs), str(left.grid.crs))
    moved = [replace(o, geometry=shapely.transform(o.geometry, move)) for o in eastern]
    shift = _OVERLAP * cut.size / 2
    everything = [o.geometry for o in (*western, *moved)]
    if not everything:
        return []
    # A little beyond the map, where what is drawn on a turned grid may lie.
    bounds = shapely.total_bounds(everything)
    line = cut.line
    low, high = min(bounds[1], line[0, 1]) - 1e4, max(bounds[3], line[-1, 1]) + 1e4
    line = np.concatenate([[(line[0, 0], low)], line, [(line[-1, 0], high)]])
    halves = (
        _half(line, shift, min(bounds[0], line[:, 0].min()) - 1e4),
        _half(line, -shift, max(bounds[2], line[:, 0].max()) + 1e4),
    )
    cuts: list[tuple[BaseGeometry, Outline]] = []
    for outlines, half in ((western, halves[0]), (moved, halves[1])):
        for outline in outlines:
            piece = shapely.intersection(shapely.make_valid(outline.geometry), half)
            if piece.area > 0:
                cuts.append((piece, outline))
    if not cuts:
        return []
    merged = shapely.union_all([piece for piece, _ in cuts])
    tree = shapely.STRtree([piece for piece, _ in cuts])
    found = []
    for polygon in getattr(merged, "geoms", [merged]):
        if polygon.geom_type != "Polygon" or polygon.area < minimum_area:
            continue
        members = [cuts[i] for i in sorted(tree.query(polygon, predicate="intersects"))]
        members = [(p, o) for p, o in members if shapely.intersection(p, polygon).area > 0]
        if len(members) == 1 and shapely.equals_exact(members[0][0], members[0][1].geometry):
            found.append(members[0][1])
            continue
        found.append(_merged(shapely.normalize(polygon), members, cut.size))
    return found


def _merged(
    polygon: Polygon, members: Sequence[tuple[BaseGeometry, Outline]], size: float
) -> Outline:
    weights = np.array([piece.area for piece, _ in members])
    means: Mapping[str, float] = {
        name: float(np.average([getattr(o, name) for _, o in members], weights=weights))
        for name in ("probability_mean", "disagreement", "filled")
    }
    return Outline(
        geometry=polygon,
        pixels=max(1, round(polygon.area / size**2)),
        probability_max=max(o.probability_max for _, o in members),
        **means,
    )


def _transform(source: str, target: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    transformer = Transformer.from_crs(source, target, always_xy=True)

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(transformer.transform(xy[:, 0], xy[:, 1]), axis=1)

    return place
