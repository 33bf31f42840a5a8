"""Outlines on disk and on grids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from thawslump.errors import DataError
from thawslump.grid import utm_crs

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ["from_lonlat", "rasterize", "read_features", "read_outlines", "to_lonlat", "utm_crs"]


_SLIVER = 1e-11  # square degrees


def rasterize(
    geometries: Iterable[BaseGeometry],
    grid: GeoBox,
    *,
    values: Sequence[int] | None = None,
    all_touched: bool = False,
    fill: int = 0,
    dtype: str = "uint8",
) -> NDArray[Any]:
    """Burn outlines into an array; the only place of the project where that is done.

    Parameters
    ----------
    geometries : iterable of shapely geometries
        In the CRS of `grid`. Empty ones are passed over.
    grid : GeoBox
    values : sequence of int, optional
        One per geometry; 1 where not given. Later ones lie on top.
    all_touched : bool
        Burn every touched pixel, not only those whose centre is inside.
    fill : int
        Value outside.
    dtype : str

    Returns
    -------
    ndarray, shape of the grid

    Examples
    --------
    >>> from affine import Affine
    >>> from shapely.geometry import box
    >>> grid = GeoBox((2, 3), Affine(10, 0, 0, 0, -10, 20), "EPSG:32652")
    >>> rasterize([box(0, 10, 20, 20)], grid).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    from rasterio.features import rasterize as burn

    shapes = list(geometries)
    burned = list(values) if values is not None else [1] * len(shapes)
    pairs = [
        (g, v) for g, v in zip(shapes, burned, strict=True) if g is not None and not g.is_empty
    ]
    if not pairs:
        return np.full(tuple(grid.shape), fill, dtype=dtype)
    return burn(
        pairs,
        out_shape=tuple(grid.shape),
        transform=grid.transform,
        fill=fill,
        all_touched=all_touched,
        dtype=dtype,
    )


def read_features(path: Path, crs: str, what: str = "features") -> GeoDataFrame:
    """Read any vector file and bring it to `crs`.

    Parameters
    ----------
    path : Path
        GeoPackage, GeoJSON, Shapefile or GeoParquet.
    crs : str
        Target CRS.
    what : str
        What errors call the content.

    Returns
    -------
    GeoDataFrame
        Rows with a non-empty geometry that `crs` can show; invalid rings are mended.

    Raises
    ------
    DataError
        The file is missing or unreadable, or has no CRS.
    """
    import geopandas

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", hint=f"Check the path of the {what}.")
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            frame = geopandas.read_parquet(path)
        else:
            # The first layer, as QGIS would offer; without a number several ones give a warning.
            frame = geopandas.read_file(path, engine="pyogrio", layer=0)
    except Exception as error:  # pyogrio and pyarrow raise classes of their own for bad files
        raise DataError(
            f"{path} could not be read as a vector file: {error}.",
            hint="Give a GeoPackage, GeoJSON, Shapefile or GeoParquet file.",
        ) from error
    if "geometry" not in frame or frame.crs is None:
        raise DataError(
            f"{path} has no CRS, so its {what} cannot be placed.",
            hint="Save it with its coordinate reference system (in QGIS: Export > Save As).",
        )
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    frame = frame.to_crs(crs)
    # Half the earth away a projection has no coordinates.
    frame = frame[np.isfinite(frame.geometry.bounds.to_numpy()).all(axis=1)]
    frame = frame.set_geometry(frame.geometry.make_valid())
    return frame.reset_index(drop=True)


def read_outlines(path: Path, crs: str) -> GeoDataFrame:
    """Read polygons from any vector file and bring them to `crs`.

    Parameters
    ----------
    path : Path
        GeoPackage, GeoJSON, Shapefile or GeoParquet.
    crs : str
        Target CRS.

    Returns
    -------
    GeoDataFrame
        Only valid, non-empty Polygon and MultiPolygon rows; invalid rings are mended.

    Raises
    ------
    DataError
        The file is missing or unreadable, has no CRS, or holds no polygons.
    """
    frame = read_features(path, crs, "outlines")
    frame = frame[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    if frame.empty:
        raise DataError(
            f"{path} holds no polygons.",
            hint="Outlines are Polygon or MultiPolygon features, one per slump.",
        )
    return frame.reset_index(drop=True)


def to_lonlat(shapes: Sequence[BaseGeometry], crs: str) -> list[BaseGeometry]:
    """Return shapes in longitude and latitude; those across the antimeridian in two pieces.

    Parameters
    ----------
    shapes : sequence of shapely geometries
        In `crs`.
    crs : str
        Projected.

    Examples
    --------
    >>> from shapely.geometry import box
    >>> across = from_lonlat([box(179.99, 65, 180, 65.01)], "EPSG:32660")[0].buffer(2000)
    >>> [shape.geom_type for shape in to_lonlat([across], "EPSG:32660")]
    ['MultiPolygon']
    """
    import geopandas

    found = geopandas.GeoSeries(list(shapes), crs=crs).to_crs("EPSG:4326")
    return [_cut_at_antimeridian(shape) for shape in found]


def _cut_at_antimeridian(shape: BaseGeometry) -> BaseGeometry:
    import shapely

    west, _, east, _ = shape.bounds
    # No slump is half the globe wide: its ring jumps from 180 to -180.
    if shape.is_empty or east - west < 180:
        return shape

    def unwrap(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]], axis=1)

    whole = shapely.make_valid(shapely.transform(shape, unwrap))
    before = shapely.intersection(whole, shapely.box(0, -90, 180, 90))
    after = shapely.intersection(whole, shapely.box(180, -90, 360, 90))
    after = shapely.transform(after, lambda xy: xy - (360.0, 0.0))
    pieces = [
        piece
        for half in (before, after)
        for piece in shapely.get_parts(half)
        # What is left of a side that only just reaches it: a few hundred square centimetres.
        if piece.geom_type == "Polygon" and piece.area > _SLIVER
    ]
    return shapely.MultiPolygon(pieces)


def from_lonlat(shapes: Sequence[BaseGeometry], crs: str) -> list[BaseGeometry]:
    """Return shapes of longitude and latitude in a CRS; pieces at the antimeridian are one again.

    Parameters
    ----------
    shapes : sequence of shapely geometries
        EPSG:4326.
    crs : str
        Projected.
    """
    import geopandas
    import shapely

    cut = [
        shape.geom_type == "MultiPolygon" and shape.bounds[0] == -180 and shape.bounds[2] == 180
        for shape in shapes
    ]
    found = list(geopandas.GeoSeries(list(shapes), crs="EPSG:4326").to_crs(crs))
    # On both sides of the cut the points are the same to the centimetre that outlines are kept to.
    return [
        shapely.union_all(shapely.get_parts(shape), grid_size=1e-2) if is_cut else shape
        for shape, is_cut in zip(found, cut, strict=True)
    ]
