"""The export of one site: what the pipeline runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
import numpy as np
from numpy.typing import NDArray

from gee.exports import credits, kept
from gee.exports.bare import as_surveyed, nothing, survey_part
from gee.exports.catchment import Catchment
from gee.exports.coverage import coverage
from gee.exports.faults import patiently
from gee.exports.fetch import Checkpoint, Tally, clear, fetch
from gee.exports.item import graph_hash, statistics, write_catalog, write_item
from gee.exports.meter import LEDGER, Ledger, Meter, workload_tag
from gee.exports.pace import Pace, TimeLeft
from gee.exports.plan import Cost, cost
from gee.exports.products import CATCHMENT, Product, products
from gee.exports.purpose import purpose
from gee.exports.survey import Survey, survey
from gee.scripts import sentinel1
from gee.session import aimed, connect, describe
from gee.steps import settings_digest
from thawslump.areas import Part
from thawslump.bands import BANDS
from thawslump.errors import DataError
from thawslump.raster import write_cog

if TYPE_CHECKING:
    from gee.config import ExportConfig
    from gee.exports.coverage import Coverage
    from thawslump.pipeline import Item
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["expected", "finish", "identity", "run", "surveyed", "tag_of"]

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
        Counts (see `gee.exports.fetch.Tally`), and EECU-seconds: measured, assumed where the
        service did not say, and estimated before.

    Raises
    ------
    BackendError
        The endpoint cannot be reached or refuses.
    BudgetError
        `export.eecu_budget` is used up; finished tiles are kept.
    DataError
        Windows, bands or area do not fit the collections; a band came out empty.
    """
    site = workspace.site(item.name)
    config = workspace.config.export
    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    folder = workspace.tiles(site.name)
    checkpoints = folder / "checkpoint"
    tally, pace = Tally(), Pace(config.workers)
    ledger = Ledger(workspace.root / "tiles" / LEDGER)
    meters: list[Meter] = []

    def meter(name: str, guess: float = 0.0) -> Meter:
        job = f"{site.name}/{name}"
        meters.append(Meter(ledger, job, config.eecu_budget, guess, ask=config.meter))
        return meters[-1]

    progress(0.0, "asking what images there are")
    with contextlib.closing(ledger), connect(backend, workspace.catalog):
        digest = settings_digest(item.settings)
        ee.data.setDefaultWorkloadTag(tag_of(workspace, site.name))
        # Tiles that are done hold the images of the first start; those that are left must too.
        begun_with = kept.load(checkpoints / "survey.json", digest)
        found = begun_with or surveyed(site, config, where, meter("survey"), workspace)
        site = as_surveyed(site, found)
        kept.save(checkpoints / "survey.json", digest, found)
        tally.add(requests=found.requests)
        wanted = products(site, found)
        costs = {product.name: expected(site, product, found, config.tile) for product in wanted}
        shown = _Progress(progress, costs, config.workers, meters)

        def fetched() -> Iterator[NDArray[Any]]:
            for product in wanted:
                one = costs[product.name]
                shown.begins(product.name)
                with aimed(backend, purpose(product.filled)):
                    yield fetch(
                        product,
                        Checkpoint(checkpoints / product.name, identity(product, item.settings)),
                        config,
                        where,
                        tally,
                        shown.advances,
                        kept=lambda pixels: shown.advances(pixels, kept=True),
                        meter=meter(product.name, one.eecu_seconds / one.pixels),
                        pace=pace,
                        tell=shown.tells,
                    )

        if not found.pictures:
            wanted = [product for product in wanted if product.name != CATCHMENT]
        arrays = fetched() if found.pictures else nothing(wanted)
        finish(workspace, site, found, wanted, arrays)
    clear(checkpoints)
    progress(1.0, "done")
    return {
        "images": found.images,
        "pixels": sum(one.pixels for one in costs.values()),
        "requests": tally.requests,
        "survey_requests": found.requests,
        "retries": tally.retries,
        "splits": tally.splits,
        "tiles_kept": tally.kept,
        "bytes": tally.bytes,
        "asked_twice": tally.asked_twice,
        "smaller_tiles": "; ".join(shown.smaller),
        "fewest_at_once": pace.fewest,
        "eecu_seconds": round(sum(one.measured for one in meters), 3),
        "eecu_seconds_assumed": round(sum(one.assumed for one in meters), 3),
        "eecu_seconds_estimate": round(sum(one.eecu_seconds for one in costs.values()), 3),
    }


def tag_of(workspace: Workspace, name: str) -> str:
    """Return the workload tag of a site: one for all parts of a large area."""
    area = workspace.area_of(name)
    return workload_tag(area, settings_digest({"of": workspace.config.name, "area": area}))


def surveyed(
    site: Site, config: ExportConfig, where: str, meter: Meter, workspace: Workspace
) -> Survey:
    """Return the survey of a site, its requests tried again after passing faults and counted."""

    def ask(request: Callable[[], Any]) -> Any:
        def counted() -> Any:
            with meter.request(0):
                return request()

        return patiently(counted, where=where, retries=config.retries, backoff=config.backoff)

    if isinstance(site, Part):
        found = survey_part(site, workspace.site(site.area), ask, workspace.root)
    else:
        found = survey(site, ask, workspace.root)
    meter.settle()
    return found


def expected(site: Site, product: Product, found: Survey, side: int) -> Cost:
    """Return what fetching a product is expected to take, from the images that there are."""
    rows, cols = product.grid.shape
    images: dict[tuple[str, str], int] = {key: len(group) for key, group in found.pictures.items()}
    return cost(site, product.name, (rows, cols), product.bands, images, side, product.pixel_bytes)


class _Progress:
    """Says how far an export is, how long it takes, what it has cost, and what it met."""

    def __init__(
        self,
        progress: Callable[[float, str], None],
        costs: Mapping[str, Cost],
        at_once: int,
        meters: Sequence[Meter],
    ) -> None:
        self._progress, self._costs, self._meters = progress, costs, meters
        # Pixels of a product with many images take longer than those of another one.
        self._weights = {n: one.seconds(at_once) / one.pixels for n, one in costs.items()}
        self._left = TimeLeft(sum(one.seconds(at_once) for one in costs.values()))
        self._total = sum(one.pixels for one in costs.values())
        self._done = 0
        self._name = self._note = ""
        self._lock = threading.Lock()
        self.smaller: list[str] = []

    def begins(self, name: str) -> None:
        self._name, self._note = name, ""

    def tells(self, words: str) -> None:
        with self._lock:
            self._note = words
            # Of one product the last words hold.
            mine = [one for one in self.smaller if not one.startswith(f"{self._name}: ")]
            self.smaller = [*mine, f"{self._name}: {words}"]
        self._say()

    def advances(self, pixels: int, kept: bool = False) -> None:
        with self._lock:
            self._done += pixels
            self._left.done(pixels * self._weights[self._name], kept)
        self._say()

    def _say(self) -> None:
        # Told by several threads.
        with self._lock:
            spent = sum(one.measured + one.assumed for one in self._meters)
            parts = [
                f"{self._name}: {self._done / 1e6:.2f} of {self._total / 1e6:.2f} Mpx",
                self._left.words(),
                f"{spent:.3g} EECU-seconds" if spent else "",
                self._note,
            ]
            words = ", ".join(part for part in parts if part)
            self._progress(0.95 * self._done / self._total, words)


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
    tiles: dict[str, Coverage] = {}
    catchment = Catchment(site)
    for product, array in catchment.completed(wanted, arrays):
        tiles[product.name] = coverage(array, product.nodata, product.bands)
        if not isinstance(site, Part):
            _refuse_empty(site, found, product, tiles[product.name])
        _write(folder / f"{product.name}.tif", product, array, found, site)
        seen[product.name] = statistics(product, array)
        pixels += int(np.prod(product.grid.shape))
    facts = {name: one.facts() for name, one in tiles.items()}
    kind = workspace.config.backend.kind
    files = [product for product in wanted if product.name != CATCHMENT]
    write_item(folder / "item.json", site, found, files, kind, seen, facts, upslope=catchment.facts)
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


def _refuse_empty(site: Site, found: Survey, product: Product, tiles: Coverage) -> None:
    empty = tiles.empty()
    for name, origin in zip(product.bands, product.sources, strict=True):
        if name not in empty:
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
