"""A site's bands as a lazy xarray dataset: computed by the service when they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["open_factors", "open_stack"]


def open_stack(
    site: Site, names: Sequence[str] | None = None, chunks: int | None = 512
) -> xarray.Dataset:
    """Return the change stack of a site, one variable per band.

    The client must be connected (`gee.session.connect`) for as long as values are read.

    Parameters
    ----------
    site : Site
    names : sequence of str, optional
        Bands; those that the site's sources can give, where not given.
    chunks : int, optional
        Side of the dask chunks, in pixels: one request each. None reads whole bands without dask.

    Returns
    -------
    xarray.Dataset
        Dimensions ``y`` and ``x`` (centres of pixels in the site's CRS, which ``attrs["crs"]``
        names); float32, NaN where masked. Equal to what an export writes.

    Examples
    --------
    With a workspace that has a site ``bykovsky``::

        with connect(BackendConfig(), workspace.catalog):
            loss = gee.open_stack(workspace.site("bykovsky"))["dNDVI"].mean().compute()
    """
    from gee.exports.survey import survey
    from gee.scripts import stack

    # Asked once, or every chunk would.
    settled = survey(site).settled
    chosen = tuple(names) if names is not None else stack.available(site, settled)
    return _opened(stack.stack(site, chosen, settled), site.grid(), chosen, chunks)


def open_factors(
    site: Site, names: Sequence[str] | None = None, chunks: int | None = 512
) -> xarray.Dataset:
    """Return the conditioning factors of a site at 30 m; see `open_stack`."""
    from gee.grids import factor_grid
    from gee.scripts import factors

    image = factors.factors(site, names or site.factors)
    bands = tuple(image.bandNames().getInfo())
    return _opened(image, factor_grid(site), bands, chunks)


def _opened(image: Any, grid: GeoBox, bands: Sequence[str], chunks: int | None) -> xarray.Dataset:
    import ee
    import xarray
    from xee.ext import EarthEngineBackendEntrypoint

    from gee.grids import crs_code, crs_transform

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
    return single.assign_attrs(crs=crs_code(grid), transform=list(grid.transform)[:6])
