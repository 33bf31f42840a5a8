"""The STAC item of a site's tiles: what they are made of, and how to check them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gee.grids import crs_code
from gee.scripts.sources import attributions, keys_of
from thawslump.files import sha256, write_json
from thawslump.grid import lonlat_bounds

if TYPE_CHECKING:
    from gee.exports.products import Product
    from gee.exports.survey import Survey
    from thawslump.site import Site

__all__ = ["graph_hash", "write_catalog", "write_item"]

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_GEOJSON = "application/geo+json"
_EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
_TITLES = {
    "stack": "Change stack",
    "context": "True colour and near infrared before and after, and the relief",
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

    Notes
    -----
    Equal input gives equal bytes: no time of writing is noted.
    """
    import pystac

    assert site.pre is not None and site.post is not None
    grid = site.grid()
    west, south, east, north = lonlat_bounds(grid)
    outline = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    made_up = survey.made_up or site.made_up
    no_radar = site.sources.get("s1") == "none"
    item = pystac.Item(
        id=site.name,
        geometry={"type": "Polygon", "coordinates": [outline]},
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
            "processing:lineage": _lineage(site),
            "processing:software": _software(),
            "thawslump:made_up": made_up,
            "thawslump:backend": backend,
            "thawslump:windows": {
                "pre": [str(site.pre.start), str(site.pre.end)],
                "post": [str(site.post.start), str(site.post.end)],
            },
            "thawslump:slope_correction": site.slope_correction,
            "thawslump:orbits": None
            if survey.orbits is None
            else [[orbit.direction, orbit.relative] for orbit in survey.orbits],
            "thawslump:platforms": survey.platforms,
            "thawslump:images": _images(site, survey),
            "thawslump:attributions": attributions(
                {"s2", "dem", *keys_of(site.factors), *(() if no_radar else ("s1",))},
                replaced=site.sources,
            ),
        },
        stac_extensions=list(_EXTENSIONS),
    )
    for product in products:
        item.add_asset(product.name, _asset(path.parent, product))
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


def _lineage(site: Site) -> str:
    if site.slope_correction == "none":
        correction = "no slope correction"
    else:
        correction = f"{site.slope_correction} slope correction (Vollrath et al. 2020)"
    return (
        f"Sentinel-1: median in linear power of the images of each window, {correction}, dB; "
        "Sentinel-2: greenest pixel of the images masked by their scene classification; "
        "change = after - before."
    )


def _software() -> dict[str, str]:
    found = {}
    for name in ("thawslump", "earthengine-api"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _images(site: Site, survey: Survey) -> dict[str, Any]:
    from gee.scripts.place import source

    found: dict[str, Any] = {"dem": {"collection": source(site, "dem")}}
    for (key, side), pictures in survey.pictures.items():
        part = found.setdefault(key, {"collection": source(site, key)})
        part[side] = [{"index": p.index, "date": str(p.date)} for p in pictures]
    return found


def _asset(folder: Path, product: Product) -> Any:
    import pystac

    path = folder / f"{product.name}.tif"
    nodata = "nan" if math.isnan(product.nodata) else product.nodata
    bands = [
        {
            "name": name,
            "unit": unit,
            "data_type": product.dtype,
            "nodata": nodata,
            "description": f"from {source}",
        }
        for name, unit, source in zip(product.bands, product.units, product.sources, strict=True)
    ]
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
