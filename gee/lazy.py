"""A site's bands as a lazy xarray dataset: computed by the service when they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

    from gee.exports.survey import Survey
    from thawslump.site import Site

__all__ = ["open_factors", "open_stack"]


def open_stack(
    site: Site,
    names: Sequence[str] | None = None,
    chunks: int | None = 512,
    *,
    survey: Survey | None = None,
    root: Path = Path(),
) -> xarray.Dataset:
    """Return the change stack of a site, one variable per band.

    The client must be connected (`gee.session.connect`) for as long as values are read.

    Parameters
    ----------
    site : Site
    names : sequence of str, optional
        Bands; those that the site's sources can give, where not given.
    chunks : int, optional
        Side of the dask chunks, in pixels: one request for each chunk of each band that is looked
        at. None reads whole bands without dask.
    survey : Survey, optional
        From `gee.exports.survey.survey`, where it was asked already; asked once otherwise, and
        never again by a chunk: images, orbit, correction and land cover are constants in it.
    root : Path
        Where relative paths of the site's own files begin: the workspace.

    Returns
    -------
    xarray.Dataset
        Dimensions ``y`` and ``x`` (centres of pixels in the site's CRS, which ``attrs["crs"]``
        names); float32, NaN where masked. Equal to what an export writes. Each band's ``attrs``
        have its ``units``, its ``long_name`` and whether it is ``categorical`` (class numbers).

    Raises
    ------
    ConfigError
        A name that is no band of the stack.
    DataError
        Windows, bands or area do not fit the collections.

    Examples
    --------
    With a workspace that has a site ``bykovsky``::

        with connect(BackendConfig(), workspace.catalog):
            loss = gee.open_stack(workspace.site("bykovsky"))["dNDVI"].mean().compute()
    """
    from gee.scripts import stack

    settled = _asked(site, survey, root).settled
    chosen = tuple(names) if names is not None else stack.available(site, settled)
    return _opened(stack.stack(site, chosen, settled), site.grid(), chosen, chunks)


def open_factors(
    site: Site,
    names: Sequence[str] | None = None,
    chunks: int | None = 512,
    *,
    survey: Survey | None = None,
    root: Path = Path(),
) -> xarray.Dataset:
    """Return the conditioning factors of a site at 30 m; see `open_stack`.

    ``embedding`` gives the 64 bands A00 to A63.
    """
    from gee.grids import factor_grid
    from gee.scripts import factors
    from thawslump.bands import EMBEDDING

    asked = tuple(names) if names is not None else site.factors
    settled = _asked(site, survey, root).settled
    image = factors.factors(site, asked, settled)
    bands = [band for name in asked for band in (EMBEDDING if name == "embedding" else (name,))]
    return _opened(image, factor_grid(site), bands, chunks)


def _asked(site: Site, known: Survey | None, root: Path) -> Survey:
    if known is not None:
        return known
    from gee.exports.survey import survey

    return survey(site, root=root)


def _opened(image: Any, grid: GeoBox, bands: Sequence[str], chunks: int | None) -> xarray.Dataset:
    import ee
    import xarray
    from xee.ext import EarthEngineBackendEntrypoint

    from gee.grids import crs_code, crs_transform
    from thawslump.bands import BANDS

    height, width = grid.shape
    # xee opens collections; a time is what makes this image one of a series.
    series = ee.ImageCollection([image.toFloat().set("system:time_start", 0)])
    # One request per chunk: xee's own requests are cut where dask's chunks are.
    side = {} if chunks is None else {"x": chunks, "y": chunks}
    more: dict[str, Any] = {"chunks": side, "io_chunks": {"index": 1, **side}} if side else {}
    dataset = xarray.open_dataset(
        series,
        engine=EarthEngineBackendEntrypoint,
        crs=crs_code(grid),
        crs_transform=tuple(crs_transform(grid)),
        shape_2d=(width, height),
        **more,
    )
    single = dataset.isel(time=0, drop=True).transpose("y", "x")[list(bands)]
    for name in bands:
        band = BANDS[name]
        single[name].attrs.update(
            units=band.unit, long_name=band.description, categorical=int(band.categorical)
        )
    return single.assign_attrs(crs=crs_code(grid), transform=list(grid.transform)[:6])
