"""Sites whose slumps several experts outlined independently: soft labels and majority."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from thawslump.agreement import majority, shares
from thawslump.errors import DataError
from thawslump.raster import open_raster, read_float, write_cog
from thawslump.vector import rasterize, read_features
from trainer.chips import IGNORE, Tile

__all__ = ["ExpertSite", "read_experts", "write_soft"]


@dataclass(frozen=True)
class ExpertSite:
    """An image and what each expert drew on it.

    Attributes
    ----------
    name : str
    bands : tuple of str
    array : ndarray of float32, shape (band, y, x)
        NaN where missing.
    experts : tuple of str
        Those who drew this site.
    drawn : ndarray of bool, shape (expert, y, x)
        True where the centre of the pixel lies in an outline of the expert.
    grid : GeoBox
    """

    name: str
    bands: tuple[str, ...]
    array: NDArray[np.float32]
    experts: tuple[str, ...]
    drawn: NDArray[np.bool_]
    grid: GeoBox

    @property
    def labels(self) -> NDArray[np.uint8]:
        """1 where more than half of the experts drew, 0 elsewhere, 255 without any band."""
        nowhere = np.isnan(self.array).all(axis=0)
        return np.where(nowhere, IGNORE, majority(self.drawn)).astype("uint8")

    @property
    def soft(self) -> NDArray[np.float32]:
        """Share of the experts who drew a pixel, NaN without any band."""
        nowhere = np.isnan(self.array).all(axis=0)
        return np.where(nowhere, np.nan, shares(self.drawn)).astype("float32")

    def tile(self, *, soft: bool = False) -> Tile:
        """Return the site to train on, with soft labels beside those of the majority or not."""
        return Tile(self.name, self.array, self.labels, soft=self.soft if soft else None)


def read_experts(
    image: Path, outlines: Mapping[str, Path], bands: Sequence[str], *, name: str
) -> ExpertSite:
    """Read an image and the outlines of several experts.

    Parameters
    ----------
    image : Path
        GeoTIFF. Where its bands have names they are found by them; without names, its first
        bands are taken to be `bands` in that order.
    outlines : mapping of expert to vector file
        In any CRS. An expert who drew nothing has a file without a row: nothing is slump then.
    bands : sequence of str
    name : str

    Returns
    -------
    ExpertSite

    Raises
    ------
    DataError
        Fewer than two experts, fewer bands than asked for, or a name is not there.

    Notes
    -----
    Outlines without area burn no pixel; outlines of one expert that overlap count once.
    """
    if len(outlines) < 2:
        raise DataError(
            f"{name}: {len(outlines)} expert drew this site; shares and agreement need 2."
        )
    with open_raster(image) as source:
        named = [band for band in source.descriptions if band]
        held = source.count
    if named:
        raster = read_float(image, list(bands))
    elif held < len(bands):
        raise DataError(
            f"{image} has {held} bands without names; {len(bands)} were asked for "
            f"({', '.join(bands)})."
        )
    else:
        raster = read_float(image)
    grid = raster.grid
    drawn = []
    for path in outlines.values():
        # Reading as outlines would refuse a file without rows, which is an answer here.
        shapes = read_features(path, str(grid.crs), "outlines").geometry
        areas = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])]
        drawn.append(rasterize(list(areas), grid).astype(bool))
    return ExpertSite(
        name,
        tuple(bands),
        raster.array[: len(bands)],
        tuple(outlines),
        np.stack(drawn),
        grid,
    )


def write_soft(path: Path, soft: NDArray[np.float32], grid: GeoBox) -> None:
    """Write soft labels as training reads them (`rounds/<n>/<site>/labels_soft.tif`).

    Parameters
    ----------
    path : Path
    soft : ndarray of float32, shape (y, x)
        Share of the experts who drew a pixel, 0 to 1; NaN not looked at.
    grid : GeoBox
        Of the site's stack.

    Raises
    ------
    DataError
        A share is below 0 or above 1.
    """
    known = soft[np.isfinite(soft)]
    if known.size and (known.min() < 0 or known.max() > 1):
        raise DataError(
            f"A share of the experts lies between 0 and 1; {path.name} would hold "
            f"{known.min():g} to {known.max():g}.",
            hint="Divide the number of experts who drew a pixel by the number who looked.",
        )
    write_cog(path, soft[None], grid, ["share"], nodata=float("nan"))
