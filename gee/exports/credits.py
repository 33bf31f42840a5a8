"""Who is to be named for the files of a site, and the warnings that their terms call for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gee.scripts.settled import Settled
from gee.scripts.sources import FACTOR_SOURCES, STACK_SOURCES, attributions
from thawslump.bands import EMBEDDING

if TYPE_CHECKING:
    from gee.exports.survey import Survey
    from thawslump.site import Site

__all__ = ["NON_COMMERCIAL", "expected", "keys", "rows", "sources_of", "tags", "warnings"]

NON_COMMERCIAL = "not free for commercial use"


def sources_of(band: str, product: str, site: Site, settled: Settled) -> tuple[str, ...]:
    """Return the keys of `SOURCES` that a band is made of, the first of which names it.

    Parameters
    ----------
    band : str
    product : {"stack", "context", "factors"}
    site : Site
    settled : Settled
        Says whether Cloud Score+ and the map of land cover were used.
    """
    if product == "context":
        found: tuple[str, ...] = ("dem",) if band == "hillshade" else ("s2", "cloud_score")
    elif product == "factors":
        found = FACTOR_SOURCES["embedding" if band in EMBEDDING else band]
        if band == "distance_rivers":
            found = ("rivers",) if "rivers" in site.sources else ("upslope",)
    else:
        found = STACK_SOURCES[band]
        radar = found[0] == "s1" and band not in ("layover", "shadow", "liaDeg")
        if radar and (settled.vegetated is not None or settled.model == "per_pixel"):
            # The map of land cover chose the model of the slope correction.
            found = (*found, "landcover")
        if radar and settled.model == "none":
            found = ("s1",)
    without = {key for key in ("s1",) if site.sources.get(key) == "none"}
    if not settled.cloud_score:
        without.add("cloud_score")
    if band == "CART_LC_classified" and site.landcover_points is not None:
        without.add("landcover")
    return tuple(key for key in found if key not in without)


def keys(bands: Iterable[tuple[str, str]], site: Site, settled: Settled) -> set[str]:
    """Return the sources of some bands, given as (product, band)."""
    return {key for product, band in bands for key in sources_of(band, product, site, settled)}


def expected(site: Site) -> set[str]:
    """Return the sources that the file of a site alone shows it will use, before any is asked."""
    given = site.sources
    found = {key for name in site.factors for key in sources_of(name, "factors", site, Settled())}
    own = {"KG_climate": "climate", "Popatpv_treeheight": "canopy"}
    for name in site.bands:
        key = own.get(name)
        if key is None or key in given:
            found |= set(sources_of(name, "stack", site, Settled()))
    return found | {"s2", "dem"}


def rows(used: Iterable[str], site: Site) -> list[dict[str, object]]:
    """Return who is to be named for some sources of a site; see `sources.attributions`."""
    return attributions(used, replaced=site.sources)


def warnings(used: Iterable[str], site: Site) -> list[str]:
    """Return one sentence per source whose terms exclude commercial use.

    Terms of data that the user brings are not known here, and not warned of.
    """
    return [
        f"{NON_COMMERCIAL}: {row['title']} ({row['licence']})"
        for row in rows(used, site)
        if row["non_commercial"]
    ]


def tags(product: str, bands: Sequence[str], site: Site, survey: Survey) -> dict[str, str]:
    """Return what a GeoTIFF says of who made its data, and under which terms.

    Returns
    -------
    dict
        ``attribution`` and ``licence``, one part per source; ``warning`` where a source excludes
        commercial use; ``TIFFTAG_COPYRIGHT``, which programs show. Made-up data are nobody's:
        there the ids of collections only stand in for them.
    """
    if survey.made_up or site.made_up:
        return {"attribution": "made-up data: nobody is to be named"}
    used = keys(((product, band) for band in bands), site, survey.settled)
    found = rows(used, site)
    named = "; ".join(dict.fromkeys(str(row["attribution"]) for row in found))
    warned = warnings(used, site)
    return {
        "attribution": named,
        "licence": "; ".join(f"{row['title']}: {row['licence']}" for row in found),
        **({"warning": "; ".join(warned)} if warned else {}),
        # TIFF's own tags are ASCII.
        "TIFFTAG_COPYRIGHT": named.encode("ascii", "replace").decode(),
    }
