"""The export of one site: what the pipeline runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gee.exports import credits
from gee.exports.faults import patiently
from gee.exports.fetch import Checkpoint, Tally, clear, fetch
from gee.exports.item import graph_hash, statistics, write_catalog, write_item
from gee.exports.plan import estimate_eecu
from gee.exports.products import Product, products
from gee.exports.purpose import purpose
from gee.exports.survey import Survey, survey
from gee.scripts import sentinel1
from gee.session import aimed, connect, describe
from thawslump.bands import BANDS
from thawslump.errors import DataError
from thawslump.raster import write_cog

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["finish", "identity", "run"]

_TERRAIN = frozenset({"elevation", "slope", "aspect", "hillshade"})


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Export one site: stack.tif, context.tif, factors.tif and item.json.

    Parameters
    ----------
    item : Item
        Its name is that of the site.
    workspace : Workspace
    progress : callable
        Told the share done (0..1) and words.

    Returns
    -------
    dict
        Images, pixels, requests, retries, splits, kept tiles, bytes, and the estimated cost.

    Raises
    ------
    BackendError
        The endpoint cannot be reached or refuses.
    DataError
        Windows, bands or area do not fit the collections; a band came out empty.
    """
    site = workspace.site(item.name)
    config = workspace.config.export
    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    folder = workspace.tiles(site.name)
    checkpoints = folder / "checkpoint"
    tally = Tally()
    progress(0.0, "asking what images there are")
    with connect(backend, workspace.catalog):
        found = survey(
            site,
            lambda ask: patiently(ask, where=where, retries=config.retries, backoff=config.backoff),
        )
        tally.add(requests=found.requests)
        wanted = products(site, found)
        total = sum(int(np.prod(product.grid.shape)) for product in wanted)
        done = 0

        def fetched() -> Iterator[NDArray[Any]]:
            for product in wanted:

                def advance(pixels: int, name: str = product.name) -> None:
                    nonlocal done
                    # Told by several threads.
                    with tally.lock:
                        done += pixels
                        share, words = done / total, f"{done / 1e6:.2f} of {total / 1e6:.2f} Mpx"
                        progress(0.95 * share, f"{name}: {words}")

                checkpoint = Checkpoint(
                    checkpoints / product.name, identity(product, item.settings)
                )
                aim = purpose(product.filled)
                with aimed(backend, aim):
                    array = fetch(
                        product,
                        checkpoint,
                        config,
                        describe(backend, workspace.catalog, aim),
                        tally,
                        advance,
                    )
                yield array

        finish(workspace, site, found, wanted, fetched())
    clear(checkpoints)
    progress(1.0, "done")
    return {
        "images": found.images,
        "pixels": total,
        "requests": tally.requests,
        "retries": tally.retries,
        "splits": tally.splits,
        "tiles_kept": tally.kept,
        "bytes": tally.bytes,
        "eecu_seconds_estimate": round(estimate_eecu(total, found.images), 3),
    }


def finish(
    workspace: Workspace,
    site: Site,
    found: Survey,
    wanted: Sequence[Product],
    arrays: Iterable[NDArray[Any]],
) -> int:
    """Write the files of a site, its STAC item and the catalogue of all sites.

    Parameters
    ----------
    arrays : iterable of ndarray, shape (band, y, x)
        One per product, in their order; each is written before the next is asked for.

    Returns
    -------
    int
        Pixels written.

    Raises
    ------
    DataError
        A band came out empty.
    """
    folder = workspace.tiles(site.name)
    pixels = 0
    seen = {}
    for product, array in zip(wanted, arrays, strict=True):
        _refuse_empty(site, found, product, array)
        _write(folder / f"{product.name}.tif", product, array, found, site)
        seen[product.name] = statistics(product, array)
        pixels += int(np.prod(product.grid.shape))
    write_item(folder / "item.json", site, found, wanted, workspace.config.backend.kind, seen)
    names = [other.name for other in workspace.sites.values() if other.source == site.source]
    write_catalog(folder.parent / "catalog.json", workspace.config.name, names)
    return pixels


def identity(product: Product, settings: Mapping[str, Any]) -> str:
    """Return a digest of everything that determines the pixels of a product."""
    a = product.grid.transform
    parts = {
        "graph": graph_hash(product),
        "grid": [str(product.grid.crs), list(product.grid.shape), list(a)[:6]],
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _refuse_empty(site: Site, found: Survey, product: Product, array: NDArray[Any]) -> None:
    for name, origin, band in zip(product.bands, product.sources, array, strict=True):
        empty = np.isnan(band) if product.dtype == "float32" else band == product.nodata
        if not empty.all():
            continue
        words = f"Site {site.name}: band {name} of {product.name} is empty: {origin} shows nothing."
        if name in _TERRAIN:
            raise DataError(words, hint="Check bounds and sources.dem of the site.")
        if product.name == "factors" and name != "NDVI":
            raise DataError(
                words,
                hint=f"Check bounds, and the asset under `sources` of the site, or leave {name} "
                "out of its factors.",
            )
        key = "s1" if name.endswith(sentinel1.POLARISATIONS) else "s2"
        used = [
            f"{side}: {', '.join(str(picture.date) for picture in pictures)}"
            for (whose, side), pictures in found.pictures.items()
            if whose == key
        ]
        raise DataError(
            f"{words} Dates used: {'; '.join(used)}.",
            hint="Clouds, snow, layover and shadow are masked: widen the windows of the site.",
        )


def _write(path: Path, product: Product, array: NDArray[Any], found: Survey, site: Site) -> None:
    made_up = found.made_up or site.made_up
    write_cog(
        path,
        array,
        product.grid,
        product.bands,
        nodata=product.nodata,
        units=product.units,
        sources=product.sources,
        # A mean of classes is none of them.
        categorical=any(name in BANDS and BANDS[name].categorical for name in product.bands),
        tags={
            "site": site.name,
            "pre": str(site.pre),
            "post": str(site.post),
            "graph": graph_hash(product),
            **credits.tags(product.name, product.bands, site, found),
            **({"made_up": "yes: made-up data, not a real place"} if made_up else {}),
        },
    )
