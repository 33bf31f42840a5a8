"""Where the chips of a candidate come from: windows of the workspace's rasters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from inventory.review import chips
from inventory.review.rasters import Kept, OpenRaster, Rasters, to_crs
from thawslump.errors import DataError
from thawslump.vector import to_lonlat

if TYPE_CHECKING:
    from inventory.records import Candidate
    from thawslump.workspace import Workspace

__all__ = ["PANELS", "Frame", "Gallery"]

# Title, and what the colours mean.
PANELS: dict[str, tuple[str, str]] = {
    "before": ("Before", "red, green, blue; both dates share one stretch"),
    "after": ("After", "red, green, blue; both dates share one stretch"),
    "infrared_before": ("Infrared before", "near infrared, red, green: plants are red"),
    "infrared_after": ("Infrared after", "near infrared, red, green: plants are red"),
    "ndvi_change": ("NDVI change", "brown: plants lost, green: gained (-0.5 .. 0.5)"),
    "hillshade": ("Relief", "hillshade"),
    "probability": ("Probability", "dark 0, light 1: mean of the ensemble"),
    "disagreement": ("Disagreement", "dark 0, light 0.5: standard deviation of the members"),
}
_RGB = ("red", "green", "blue")
_CIR = ("nir", "red", "green")
_COLOUR: dict[str, tuple[str, tuple[str, ...]]] = {
    "before": ("pre", _RGB),
    "after": ("post", _RGB),
    "infrared_before": ("pre", _CIR),
    "infrared_after": ("post", _CIR),
}
_RENDERED = 512
_LARGE = ("before", "after")
_SMALL = 256


@dataclass(frozen=True)
class Frame:
    """The square that all chips of a candidate show.

    Attributes
    ----------
    site : str
    column, row, side : int
        In pixels of the site's grid; may reach beyond it.
    transform : Affine
        From the square's pixels to the CRS.
    crs : str
    metres : float
        Side of the square.
    """

    site: str
    column: int
    row: int
    side: int
    transform: Affine
    crs: str
    metres: float

    def path(self, geometry: BaseGeometry) -> str:
        """Return a lon/lat outline as an SVG path in a square of 1000 x 1000."""
        transformer = to_crs(self.crs)
        scale = 1000.0 / self.side
        inverse = Affine.scale(scale) @ ~self.transform

        def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = transformer.transform(xy[:, 0], xy[:, 1])
            a = inverse
            return np.stack([a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f], axis=1)

        shape = shapely.transform(geometry, place)
        parts = []
        for polygon in getattr(shape, "geoms", [shape]):
            for ring in (polygon.exterior, *polygon.interiors):
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in ring.coords[:-1])
                parts.append(f"M{points}Z")
        return "".join(parts)

    def lonlat(self, ring: list[tuple[float, float]]) -> BaseGeometry:
        """Return a ring drawn in the square of 1000 x 1000 as a lon/lat outline.

        A ring that crosses itself becomes the largest part of what it encloses: specks come from
        a slip of the hand where the loop begins.

        Raises
        ------
        DataError
            It encloses less than a pixel.
        """
        drawn = shapely.make_valid(shapely.Polygon(ring), method="structure", keep_collapsed=False)
        parts = [g for g in getattr(drawn, "geoms", [drawn]) if g.geom_type == "Polygon"]
        largest = max(parts, key=lambda part: part.area, default=shapely.Polygon())
        if largest.area < (1000.0 / self.side) ** 2:
            raise DataError(
                "The outline that was drawn encloses less than a pixel.",
                hint="Draw it again, around the slump.",
            )
        forward = self.transform @ Affine.scale(self.side / 1000.0)

        def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = forward @ (xy[:, 0], xy[:, 1])
            return np.stack([x, y], axis=1)

        return to_lonlat([shapely.transform(largest, place)], self.crs)[0]


class Gallery:
    """Renders chips, and keeps the last ones.

    Parameters
    ----------
    workspace : Workspace
        Its ``tiles/<site>/context.tif`` and ``stack.tif`` and ``rounds/<n>/maps/<site>.tif`` are
        read (of a large area, the mosaics of its parts); they have one grid.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._rasters = Rasters()
        self._pictures: Kept[bytes] = Kept(_RENDERED)
        self._stretches: Kept[NDArray[np.float32]] = Kept(64)

    def close(self) -> None:
        """Close the files; they are opened again where a chip is asked for."""
        self._rasters.close()

    def _paths(self, candidate: Candidate) -> tuple[Path, Path, Path]:
        place = self._view(candidate)
        return (
            self.workspace.context(place),
            self.workspace.stack(place),
            self.workspace.map(candidate.round, place),
        )

    def _view(self, candidate: Candidate) -> str:
        """Return the name that a candidate's rasters have: of a large area, the zone's."""
        zones = self.workspace.zones(candidate.site)
        if len(zones) < 2:
            return zones[0].name if zones else candidate.site
        # The largest piece of one across the antimeridian lies clearly on one side.
        largest = max(shapely.get_parts(candidate.geometry), key=shapely.area)
        return next(zone for zone in zones if zone.holds(largest.centroid.x)).name

    def frame(self, candidate: Candidate, zoom: float = 1.0) -> Frame:
        """Return the square that shows a candidate.

        Raises
        ------
        DataError
            The site has no tile.
        """
        context, stack, _ = self._paths(candidate)
        source = self._rasters.get(context) or self._rasters.get(stack)
        if source is None:
            raise DataError(
                f"Site {candidate.site} has no tile, so there is nothing to look at.",
                hint="Run `thawslump run --until export` first.",
            )
        xy = shapely.get_coordinates(candidate.geometry)
        x, y = to_crs(source.crs).transform(xy[:, 0], xy[:, 1])
        columns, rows = ~source.transform @ (np.asarray(x), np.asarray(y))
        bounds = (columns.min(), rows.min(), columns.max(), rows.max())
        column, row, side = chips.square_window(bounds, zoom=zoom, shape=source.shape)
        return Frame(
            site=candidate.site,
            column=column,
            row=row,
            side=side,
            transform=source.transform @ Affine.translation(column, row),
            crs=source.crs,
            metres=side * abs(source.transform.a),
        )

    def panels(self, candidate: Candidate) -> list[str]:
        """Return the names of the panels that the site's files can give, in order."""
        sources = [self._rasters.get(path) for path in self._paths(candidate)]
        place = next((source.place for source in sources if source is not None), None)
        # A file on another grid would show another place: better no panel than a wrong one.
        context, stack, chart = (
            set() if source is None or source.place != place else set(source.names)
            for source in sources
        )
        both = {f"{date}_{band}" for date in ("pre", "post") for band in ("nir", "red")}
        there = {
            "ndvi_change": "dNDVI" in stack or both <= context,
            "hillshade": "hillshade" in context,
            "probability": "probability" in chart,
            "disagreement": "disagreement" in chart,
        }
        for panel in _COLOUR:
            there[panel] = set(_colour_bands(panel)) <= context
        return [name for name in PANELS if there[name]]

    def version(self, candidate: Candidate) -> str:
        """Return a word that changes when a file that the chips come from does."""
        return "-".join(self._rasters.stamp(path) or "0" for path in self._paths(candidate))

    def chip(self, candidate: Candidate, panel: str, zoom: float = 1.0) -> bytes:
        """Return one chip as PNG.

        Raises
        ------
        DataError
            There is no such panel for the site.
        """
        key = (candidate.candidate_id, panel, zoom, self.version(candidate))
        picture = self._pictures.get(key)
        if picture is None:
            there = self.panels(candidate)
            if panel not in there:
                raise DataError(
                    f"There is no panel {panel!r} for site {candidate.site}; "
                    f"there are {', '.join(there) or 'none'}.",
                    hint="Export the tile with that band.",
                )
            picture = self._render(candidate, panel, self.frame(candidate, zoom))
            self._pictures.put(key, picture)
        return picture

    def _render(self, candidate: Candidate, panel: str, frame: Frame) -> bytes:
        context, stack, chart = map(self._rasters.get, self._paths(candidate))
        # The row of small images needs no more pixels than it shows.
        step = 1 if panel in _LARGE else max(1, frame.side // _SMALL)

        def band(source: OpenRaster | None, *names: str) -> NDArray[np.float32]:
            assert source is not None
            square = source.square(names, frame.column, frame.row, frame.side)
            return square[:, ::step, ::step]

        if panel in _COLOUR:
            stretch = self.stretch(candidate, _COLOUR[panel][1])
            return chips.png(chips.true_colour(band(context, *_colour_bands(panel)), stretch))
        if panel == "hillshade":
            low, high = self.stretch(candidate, ("hillshade",))[0]
            numbers = chips.shades(band(context, "hillshade")[0], low, high)
            return chips.png_of_shades(numbers, "grey")
        if panel != "ndvi_change":
            high = 0.5 if panel == "disagreement" else 1.0
            numbers = chips.shades(band(chart, panel)[0], 0.0, high)
            return chips.png_of_shades(numbers, "sequential")
        if stack is not None and "dNDVI" in stack.names:
            change = band(stack, "dNDVI")[0]
        else:
            a, b, c, d = band(context, "pre_nir", "pre_red", "post_nir", "post_red")
            with np.errstate(divide="ignore", invalid="ignore"):
                change = (c - d) / (c + d) - (a - b) / (a + b)
        return chips.png_of_shades(chips.shades(change, -0.5, 0.5), "diverging")

    def stretch(self, candidate: Candidate, bands: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the stretch of a site: the same for all of its chips and for both dates.

        Parameters
        ----------
        candidate : Candidate
        bands : tuple of str
            Of "red", "green", "blue", "nir"; or only "hillshade", which has no date.

        Returns
        -------
        ndarray of float32, shape (band, 2)
        """
        path = self._paths(candidate)[0]
        key = (path, self._rasters.stamp(path), bands)
        stretch = self._stretches.get(key)
        if stretch is None:
            source = self._rasters.get(path)
            assert source is not None
            dates = ("",) if bands == ("hillshade",) else ("pre_", "post_")
            values = source.overview(tuple(date + band for date in dates for band in bands))
            half = len(bands)
            stretch = chips.limits(values[:half], values[-half:])
            self._stretches.put(key, stretch)
        return stretch


def _colour_bands(panel: str) -> tuple[str, ...]:
    date, bands = _COLOUR[panel]
    return tuple(f"{date}_{band}" for band in bands)
