"""Where the chips of a candidate come from: windows of the workspace's rasters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from inventory.review import chips
from thawslump.errors import DataError
from thawslump.raster import open_raster

if TYPE_CHECKING:
    from inventory.store import Candidate
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
_MAXIMUM = 768
_RENDERED = 512


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
        to_crs = Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        scale = 1000.0 / self.side
        inverse = Affine.scale(scale) @ ~self.transform

        def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = to_crs.transform(xy[:, 0], xy[:, 1])
            a = inverse
            return np.stack([a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f], axis=1)

        shape = shapely.transform(geometry, place)
        parts = []
        for polygon in getattr(shape, "geoms", [shape]):
            for ring in (polygon.exterior, *polygon.interiors):
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in ring.coords[:-1])
                parts.append(f"M{points}Z")
        return "".join(parts)


class Gallery:
    """Renders chips, and keeps the last ones.

    Parameters
    ----------
    workspace : Workspace
        Its ``tiles/<site>/context.tif`` (and ``rounds/<n>/maps/<site>.tif``) are read.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._stretches: dict[tuple[Path, int, tuple[str, ...]], NDArray[np.float32]] = {}

    def frame(self, candidate: Candidate, zoom: float = 1.0) -> Frame:
        """Return the square that shows a candidate."""
        grid_file = self._grid_file(candidate.site)
        with open_raster(grid_file) as source:
            if source.crs is None:
                raise DataError(f"{grid_file} has no CRS.", hint="Export the tile again.")
            transform, crs = source.transform, source.crs.to_wkt()
        to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        xy = shapely.get_coordinates(candidate.geometry)
        x, y = to_crs.transform(xy[:, 0], xy[:, 1])
        columns, rows = ~transform @ (np.asarray(x), np.asarray(y))
        bounds = (columns.min(), rows.min(), columns.max(), rows.max())
        column, row, side = chips.square_window(bounds, zoom=zoom)
        return Frame(
            site=candidate.site,
            column=column,
            row=row,
            side=side,
            transform=transform @ Affine.translation(column, row),
            crs=crs,
            metres=side * abs(transform.a),
        )

    def _grid_file(self, site: str) -> Path:
        for path in (self.workspace.context(site), self.workspace.stack(site)):
            if path.exists():
                return path
        raise DataError(
            f"Site {site} has no tile, so there is nothing to look at.",
            hint="Run `thawslump run --until export` first.",
        )

    def panels(self, candidate: Candidate) -> list[str]:
        """Return the names of the panels that the site's files can give, in order."""
        context = self._names(self.workspace.context(candidate.site))
        stack = self._names(self.workspace.stack(candidate.site))
        shown = []
        for name in PANELS:
            needs: tuple[str, ...]
            if name in ("before", "after"):
                needs = tuple(f"{_prefix(name)}_{band}" for band in _RGB)
                there = set(needs) <= context
            elif name.startswith("infrared"):
                there = {f"{_prefix(name)}_{band}" for band in _CIR} <= context
            elif name == "ndvi_change":
                both = {f"{date}_{band}" for date in ("pre", "post") for band in ("nir", "red")}
                there = "dNDVI" in stack or both <= context
            elif name == "hillshade":
                there = "hillshade" in context
            else:
                there = name in self._names(self._map(candidate))
            if there:
                shown.append(name)
        return shown

    def _map(self, candidate: Candidate) -> Path:
        return self.workspace.maps(candidate.round) / f"{candidate.site}.tif"

    def _names(self, path: Path) -> set[str]:
        if not path.exists():
            return set()
        with open_raster(path) as source:
            return {name for name in source.descriptions if name}

    def version(self, candidate: Candidate) -> str:
        """Return a word that changes when a file that the chips come from does."""
        stamps = []
        for path in (
            self.workspace.context(candidate.site),
            self.workspace.stack(candidate.site),
            self._map(candidate),
        ):
            stamps.append(f"{path.stat().st_mtime_ns:x}" if path.exists() else "0")
        return "-".join(stamps)

    def chip(self, candidate: Candidate, panel: str, zoom: float = 1.0) -> bytes:
        """Return one chip as PNG.

        Raises
        ------
        DataError
            There is no such panel for the site.
        """
        key = (candidate.candidate_id, panel, zoom, self.version(candidate))
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        if panel not in self.panels(candidate):
            raise DataError(
                f"There is no panel {panel!r} for site {candidate.site}; "
                f"there are {', '.join(self.panels(candidate)) or 'none'}.",
                hint="Export the tile with that band.",
            )
        picture = chips.png(self._render(candidate, panel, self.frame(candidate, zoom)))
        with self._lock:
            self._pictures[key] = picture
            while len(self._pictures) > _RENDERED:
                self._pictures.popitem(last=False)
        return picture

    def _render(self, candidate: Candidate, panel: str, frame: Frame) -> NDArray[np.uint8]:
        context = self.workspace.context(candidate.site)
        if panel in ("before", "after", "infrared_before", "infrared_after"):
            bands = _CIR if panel.startswith("infrared") else _RGB
            names = tuple(f"{_prefix(panel)}_{band}" for band in bands)
            return chips.true_colour(_read(context, names, frame), self._stretch(context, bands))
        if panel == "ndvi_change":
            return chips.diverging(self._ndvi_change(candidate.site, frame), 0.5)
        if panel == "hillshade":
            values = _read(context, ("hillshade",), frame)[0]
            return chips.grey(values, 0, 255)
        values = _read(self._map(candidate), (panel,), frame)[0]
        return chips.colours(values, 0, 0.5 if panel == "disagreement" else 1.0, "sequential")

    def _ndvi_change(self, site: str, frame: Frame) -> NDArray[np.float32]:
        stack = self.workspace.stack(site)
        if "dNDVI" in self._names(stack):
            return _read(stack, ("dNDVI",), frame)[0]
        names = ("pre_nir", "pre_red", "post_nir", "post_red")
        a, b, c, d = _read(self.workspace.context(site), names, frame)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((c - d) / (c + d) - (a - b) / (a + b), dtype="float32")

    def _stretch(self, path: Path, bands: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the stretch of a site: the same for all of its chips and for both dates."""
        key = (path, path.stat().st_mtime_ns, bands)
        with self._lock:
            if key in self._stretches:
                return self._stretches[key]
        names = [f"{date}_{band}" for date in ("pre", "post") for band in bands]
        with open_raster(path) as source:
            scale = max(1.0, max(source.shape) / 512)
            size = (max(1, int(source.height / scale)), max(1, int(source.width / scale)))
            values = _floats(source, names, out_shape=(len(names), *size))
        stretch = chips.limits(values[:3], values[3:])
        with self._lock:
            self._stretches[key] = stretch
        return stretch


def _prefix(panel: str) -> str:
    return "pre" if panel.endswith("before") else "post"


def _read(path: Path, names: tuple[str, ...], frame: Frame) -> NDArray[np.float32]:
    """Return bands in the frame, NaN beyond the raster; large frames are read more coarsely."""
    with open_raster(path) as source:
        # The map of a round has the grid of the tile, so the frame's pixels are its pixels.
        row0, row1 = max(0, frame.row), min(source.height, frame.row + frame.side)
        column0, column1 = max(0, frame.column), min(source.width, frame.column + frame.side)
        step = max(1, -(-frame.side // _MAXIMUM))
        side = -(-frame.side // step)
        out = np.full((len(names), side, side), np.nan, dtype="float32")
        if row0 >= row1 or column0 >= column1:
            return out
        height, width = -(-(row1 - row0) // step), -(-(column1 - column0) // step)
        window = Window(column0, row0, column1 - column0, row1 - row0)
        values = _floats(source, names, window=window, out_shape=(len(names), height, width))
        top, left = (row0 - frame.row) // step, (column0 - frame.column) // step
        height, width = min(height, side - top), min(width, side - left)
        out[:, top : top + height, left : left + width] = values[:, :height, :width]
        return out


def _floats(
    source: rasterio.io.DatasetReader, names: Any, **options: Any
) -> NDArray[np.float32]:
    index = [source.descriptions.index(name) + 1 for name in names]
    raw = source.read(index, **options)
    values = raw.astype("float32")
    if source.nodata is not None and not np.isnan(source.nodata):
        values[raw == source.nodata] = np.nan
    scales = np.array([source.scales[i - 1] for i in index], dtype="float32")
    offsets = np.array([source.offsets[i - 1] for i in index], dtype="float32")
    return np.asarray(values * scales[:, None, None] + offsets[:, None, None])


