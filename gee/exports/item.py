"""The STAC item of a site's tiles: what they are made of, and how to check them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gee.exports import credits
from gee.grids import crs_code
from gee.scripts.place import source
from gee.scripts.sources import resembles
from thawslump.bands import BANDS, EMBEDDING
from thawslump.files import sha256, write_json
from thawslump.grid import geojson_box, lonlat_bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gee.exports.products import Product
    from gee.exports.survey import Side, Survey
    from thawslump.site import Site

__all__ = ["graph_hash", "statistics", "write_catalog", "write_item"]

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_GEOJSON = "application/geo+json"
_EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
_CONTEXT = {
    "red": "red (B4)",
    "green": "green (B3)",
    "blue": "blue (B2)",
    "nir": "near infrared (B8)",
    "observations": "clear observations",
}
_TITLES = {
    "stack": "Change stack",
    "context": "True colour and near infrared before and after, the relief, clear observations",
    "factors": "Conditioning factors",
}


def graph_hash(product: Product) -> str:
    """Return the SHA-256 of a product's expression graph as it is sent to the service."""
    text: str = product.filled.serialize()
    return hashlib.sha256(text.encode()).hexdigest()


def write_item(
    path: Path,
    site: Site,
    survey: Survey,
    products: Sequence[Product],
    backend: str,
    statistics: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    tiles: Mapping[str, Mapping[str, Any]] | None = None,
    upslope: Mapping[str, Any] | None = None,
) -> None:
    """Write the STAC 1.1 item that stands beside the files of a site.

    Parameters
    ----------
    path : Path
        ``item.json``; the files lie beside it, and the item names them relatively.
    site : Site
    survey : Survey
        Collections and dates that were used.
    products : sequence of Product
        Written already.
    backend : str
        Kind of endpoint, ``emulator`` or ``earthengine``.
    statistics : mapping, optional
        By product, `statistics` of each of its bands.
    tiles : mapping, optional
        By product, how much of its tiles holds nothing (`gee.exports.coverage`).
    upslope : mapping, optional
        How the upslope area was computed, where that was on this machine
        (`gee.exports.catchment`).

    Notes
    -----
    Equal input gives equal bytes: no time of writing is noted.
    """
    import pystac

    assert site.pre is not None and site.post is not None
    grid = site.grid()
    west, south, east, north = lonlat_bounds(grid)
    made_up = survey.made_up or site.made_up
    settled = survey.settled
    used = credits.keys(
        ((product.name, band) for product in products for band in product.bands), site, settled
    )
    item = pystac.Item(
        id=site.name,
        geometry=geojson_box((west, south, east, north)),
        bbox=[west, south, east, north],
        datetime=None,
        start_datetime=_midnight(site.pre.start),
        end_datetime=_midnight(site.post.end),
        properties={
            "title": f"{site.name}, {site.pre} to {site.post}" + (", made up" if made_up else ""),
            "proj:code": crs_code(grid),
            "proj:shape": list(grid.shape),
            "proj:transform": list(grid.transform)[:6],
            "processing:level": "L4",
            "processing:lineage": _lineage(site, survey),
            "processing:software": _software(),
            "license": "other",
            "thawslump:made_up": made_up,
            "thawslump:backend": backend,
            "thawslump:windows": {
                "pre": [str(site.pre.start), str(site.pre.end)],
                "post": [str(site.post.start), str(site.post.end)],
            },
            "thawslump:slope_correction": settled.model or site.slope_correction,
            "thawslump:vegetated_share": settled.vegetated,
            "thawslump:look_direction": settled.look,
            "thawslump:incidence": settled.incidence,
            "thawslump:speckle_filter": site.speckle_filter,
            "thawslump:cast_shadow": site.cast_shadow,
            "thawslump:orbits": None
            if survey.orbits is None
            else [[orbit.direction, orbit.relative] for orbit in survey.orbits],
            "thawslump:platforms": survey.platforms,
            "thawslump:cloud_mask": "cloud_score" if settled.cloud_score else "scl",
            "thawslump:landcover": survey.landcover,
            "thawslump:left_out": dict(settled.left_out),
            **({"thawslump:upslope": dict(upslope)} if upslope else {}),
            "thawslump:images": _images(site, survey, used),
            "thawslump:attributions": credits.rows(used, site),
            "thawslump:warnings": credits.warnings(used, site),
            **(
                {} if tiles is None else {"thawslump:tiles": {n: dict(t) for n, t in tiles.items()}}
            ),
        },
        stac_extensions=list(_EXTENSIONS),
    )
    for product in products:
        seen = None if statistics is None else statistics.get(product.name)
        item.add_asset(product.name, _asset(path.parent, product, site, survey, seen))
    for relation in ("root", "parent"):
        item.add_link(pystac.Link(relation, "../catalog.json", media_type="application/json"))
    write_json(path, item.to_dict(include_self_link=False, transform_hrefs=False))


def write_catalog(path: Path, title: str, sites: Iterable[str]) -> None:
    """Write the STAC catalogue of all sites of a workspace, ``tiles/catalog.json``.

    It names every site of the workspace, exported yet or not: exports that end at the same time
    then write the same bytes.
    """
    import pystac

    catalog = pystac.Catalog(id="tiles", description=title, title=title)
    for site in sorted(sites):
        catalog.add_link(pystac.Link("item", f"./{site}/item.json", media_type=_GEOJSON))
    catalog.add_link(pystac.Link("root", "./catalog.json", media_type="application/json"))
    write_json(path, catalog.to_dict(include_self_link=False, transform_hrefs=False))


def _midnight(date: Any) -> Any:
    import datetime as dt

    return dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC)


def _lineage(site: Site, survey: Survey) -> str:
    model = survey.settled.model or site.slope_correction
    if source(site, "s1") == "none":
        radar = ""
    else:
        correction = (
            "no slope correction"
            if model == "none"
            else f"slope correction by the model {model} (Vollrath et al. 2020)"
        )
        if site.speckle_filter is not None:
            side = site.speckle_filter
            correction += f", multi-temporal speckle filter of {side} x {side} pixels"
        radar = (
            f"Sentinel-1: median in linear power of the images of each window, {correction}, dB; "
        )
    clouds = "Cloud Score+ and " if survey.settled.cloud_score else ""
    return (
        f"{radar}Sentinel-2: greenest pixel of the images, clouds masked by {clouds}their scene "
        "classification; change = after - before."
    )


def _software() -> dict[str, str]:
    found = {}
    for name in ("thawslump", "earthengine-api"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _images(site: Site, survey: Survey, used: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in sorted(used):
        if key in ("s1", "s2") or (key == "landcover_points" and key not in site.sources):
            continue
        found[key] = {"collection": source(site, key)}
    for (key, side), pictures in survey.pictures.items():
        part = found.setdefault(key, {"collection": source(site, key)})
        part[side] = [{"index": p.index, "date": str(p.date)} for p in pictures]
    return found


def statistics(product: Product, array: NDArray[Any]) -> list[dict[str, float]]:
    """Return smallest and largest value and the share that is not nodata, of each band.

    Parameters
    ----------
    product : Product
    array : ndarray, shape (band, y, x)

    Returns
    -------
    list of dict
        As STAC's `statistics`: ``minimum``, ``maximum`` (absent in an empty band), and
        ``valid_percent``.
    """
    import numpy as np

    from gee.exports.checkpoint import release

    bands, rows, _ = array.shape
    seen = np.zeros(bands, np.int64)
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    for top in range(0, rows, 256):
        # A part at a time: a large product lies in a file.
        for index in range(bands):
            part = np.asarray(array[index, top : top + 256])
            there = np.isfinite(part) if product.dtype == "float32" else part != product.nodata
            seen[index] += int(there.sum())
            if there.any():
                values = part[there]
                low[index] = min(low[index], float(values.min()))
                high[index] = max(high[index], float(values.max()))
        release(array)
    found = []
    for index in range(bands):
        row = {"valid_percent": round(100.0 * float(seen[index]) / array[index].size, 4)}
        if seen[index]:
            # As many digits as float32 holds.
            row |= {"minimum": float(f"{low[index]:.7g}"), "maximum": float(f"{high[index]:.7g}")}
        found.append(row)
    return found


def _sides(band: str) -> tuple[Side, ...]:
    """Return the windows whose images of a collection go into a band."""
    if band.startswith("pre"):
        return ("pre",)
    if band.startswith("post"):
        return ("post",)
    # The ground as it was: classes and NDVI of the window before.
    before = band in ("NDVI", "CART_LC_classified")
    return ("pre",) if before else ("pre", "post")


def _dates(band: str, keys: Iterable[str], survey: Survey) -> list[str]:
    found = set()
    day = survey.settled.clear_day
    for key in keys:
        if band == "CART_LC_classified" and key == "s2" and day is not None:
            found.add(str(day))  # the tree sees one day, the clearest
            continue
        for side in _sides(band):
            found |= {str(picture.date) for picture in survey.pictures.get((key, side), ())}
    return sorted(found)


def _period(band: str, site: Site) -> list[str] | None:
    """Return first day and day after the last of what a band sums up without a list of images."""
    from gee.scripts.climate import rain_months
    from gee.scripts.factors import embedding_year

    assert site.pre is not None
    if band in EMBEDDING and resembles("embedding", source(site, "embedding")):
        year = embedding_year(site)
        return [f"{year}-01-01", f"{year + 1}-01-01"]
    if band in ("LST", "LST_days") and resembles("lst", source(site, "lst")):
        window = site.pre
    elif band == "precipitation" and resembles(band, source(site, band)):
        window = rain_months(site)
    else:
        return None
    return [str(window.start), str(window.end)]


def _described(band: str) -> str:
    if band in BANDS:
        return BANDS[band].description
    side, _, what = band.partition("_")
    if what in _CONTEXT:
        return f"{_CONTEXT[what]} {'before' if side == 'pre' else 'after'}, greenest pixel"
    return "shaded relief"


def _asset(
    folder: Path,
    product: Product,
    site: Site,
    survey: Survey,
    seen: Sequence[Mapping[str, float]] | None,
) -> Any:
    import pystac

    path = folder / f"{product.name}.tif"
    nodata = "nan" if math.isnan(product.nodata) else product.nodata
    bands = []
    for number, (name, unit, origin) in enumerate(
        zip(product.bands, product.units, product.sources, strict=True)
    ):
        keys = credits.sources_of(name, product.name, site, survey.settled)
        entry: dict[str, Any] = {
            "name": name,
            "unit": unit,
            "data_type": product.dtype,
            "nodata": nodata,
            "description": f"{_described(name)}; from {origin}",
            "thawslump:sources": [source(site, key) for key in keys if key != "landcover_points"],
            "thawslump:dates": _dates(name, keys, survey),
        }
        period = _period(name, site)
        if period is not None:
            entry["thawslump:period"] = period
        if seen is not None:
            entry["statistics"] = dict(seen[number])
        bands.append(entry)
    return pystac.Asset(
        href=f"./{path.name}",
        title=_TITLES[product.name],
        media_type=_COG,
        roles=["data"],
        extra_fields={
            "bands": bands,
            "raster:spatial_resolution": abs(product.grid.transform.a),
            "proj:shape": list(product.grid.shape),
            "proj:transform": list(product.grid.transform)[:6],
            # A multihash: 12 is SHA-256, 20 its length in bytes.
            "file:checksum": "1220" + sha256(path),
            "file:size": path.stat().st_size,
            "processing:expression": {"format": "earth-engine", "expression": graph_hash(product)},
        },
    )
