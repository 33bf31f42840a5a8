"""Where the data come from by default, who is to be named for them, and under which licence.

Needs no Earth Engine client: plans read it too. `Site.sources` replaces any id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["FACTOR_SOURCES", "SOURCES", "STACK_SOURCES", "Source", "attributions", "keys_of"]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes
    ----------
    key : str
        Under which `Site.sources` names another one.
    id : str or None
        Asset id on Earth Engine; None where there is no default, and the user's own is needed.
    title, attribution, licence : str
    non_commercial : bool
        The licence allows no commercial use (or only under other terms).
    note : str
        What to know before trusting it.
    """

    key: str
    id: str | None
    title: str
    attribution: str
    licence: str
    non_commercial: bool = False
    note: str = ""


_COPERNICUS = "Contains modified Copernicus Sentinel data"
_OWN = "to be given by whoever brings the data"

SOURCES: dict[str, Source] = {
    source.key: source
    for source in (
        Source("s1", "COPERNICUS/S1_GRD", "Sentinel-1 GRD", _COPERNICUS, "Copernicus data terms"),
        Source(
            "s2",
            "COPERNICUS/S2_SR_HARMONIZED",
            "Sentinel-2 L2A, harmonised",
            _COPERNICUS,
            "Copernicus data terms",
        ),
        Source(
            "dem",
            # Valid to 85 N, unlike SRTM, which ends at 60 N.
            "COPERNICUS/DEM/GLO30",
            "Copernicus DEM GLO-30",
            "(c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space GmbH 2014-2018, provided "
            "under COPERNICUS by the European Union and ESA; all rights reserved",
            "Copernicus DEM terms",
        ),
        Source(
            "cloud_score",
            "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED",
            "Cloud Score+, Sentinel-2 harmonised",
            "Pasquarella et al. 2023, CVPR Workshops; produced by Google from modified Copernicus "
            "Sentinel data",
            "CC-BY 4.0",
            note="images without a score keep the mask of their scene classification",
        ),
        Source(
            "upslope",
            "MERIT/Hydro/v1_0_1",
            "MERIT Hydro, upstream drainage area (band upa, km2)",
            "Yamazaki et al. 2019, Water Resources Research 55, doi 10.1029/2019WR024873",
            "CC-BY-NC 4.0, or ODbL 1.0 (derived data must be shared under it)",
            non_commercial=True,
            note="3 arc-seconds, about 90 m: coarser than the other factors",
        ),
        Source(
            "lst",
            "LANDSAT/LC08/C02/T1_L2",
            "Landsat 8 Collection 2 Level 2, surface temperature",
            "Landsat-8 image courtesy of the U.S. Geological Survey",
            "public domain",
        ),
        Source(
            "precipitation",
            "ECMWF/ERA5_LAND/MONTHLY_AGGR",
            "ERA5-Land, monthly",
            "Contains modified Copernicus Climate Change Service information",
            "Copernicus C3S terms",
            note="about 11 km: one value for a whole site, or a few",
        ),
        Source(
            "landcover",
            "ESA/WorldCover/v200",
            "ESA WorldCover 2021",
            "(c) ESA WorldCover project 2021 / Contains modified Copernicus Sentinel data (2021) "
            "processed by ESA WorldCover consortium",
            "CC-BY 4.0",
            note="a map of 2021: slumps that are older may be its classes, not their cause",
        ),
        Source(
            "embedding",
            "GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL",
            "Satellite Embedding V1, annual",
            "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and "
            "Google DeepMind.",
            "CC-BY 4.0",
            note="a year after the change shows the slumps themselves: the year before is taken",
        ),
        Source(
            "landcover_points",
            None,
            "points of known land cover (property landcover, classes 1 to 8)",
            _OWN,
            _OWN,
        ),
        Source("climate", None, "Koeppen-Geiger climate (classes)", _OWN, _OWN),
        Source("canopy", None, "canopy height (m)", _OWN, _OWN),
        Source("faults", None, "faults (lines)", _OWN, _OWN),
        Source(
            "rivers",
            None,
            "rivers (lines); without them channels of the upslope area",
            _OWN,
            _OWN,
        ),
        Source("roads", None, "roads (lines)", _OWN, _OWN),
        Source("railway", None, "railway (lines)", _OWN, _OWN),
        Source("lithology", None, "lithology (classes)", _OWN, _OWN),
        Source("permafrost", None, "permafrost or frozen soil (classes)", _OWN, _OWN),
    )
}

STACK_SOURCES: dict[str, tuple[str, ...]] = {
    **{f"{when}{how}": ("s1", "dem") for how in ("VV", "VH") for when in ("pre", "post", "d")},
    "layover": ("s1", "dem"),
    "shadow": ("s1", "dem"),
    "liaDeg": ("s1", "dem"),
    "elevation": ("dem",),
    "slope": ("dem",),
    "KG_climate": ("climate",),
    "Popatpv_treeheight": ("canopy",),
    "CART_LC_classified": ("s2", "cloud_score", "dem", "s1", "landcover"),
    "dNDVI": ("s2", "cloud_score"),
}
"""What each band of the change stack is made from; the first names it in files."""

FACTOR_SOURCES: dict[str, tuple[str, ...]] = {
    "elevation": ("dem",),
    "slope": ("dem",),
    "aspect": ("dem",),
    "curvature": ("dem",),
    "plan_curvature": ("dem",),
    "profile_curvature": ("dem",),
    "TPI": ("dem",),
    "TRI": ("dem",),
    "TRI_range": ("dem",),
    "TWI": ("upslope", "dem"),
    "SPI": ("upslope", "dem"),
    "NDVI": ("s2", "cloud_score"),
    "LST": ("lst",),
    "precipitation": ("precipitation",),
    "distance_faults": ("faults",),
    "distance_rivers": ("rivers", "upslope"),
    "distance_roads": ("roads",),
    "distance_railway": ("railway",),
    "lithology": ("lithology",),
    "landcover": ("landcover",),
    "permafrost": ("permafrost",),
    "embedding": ("embedding",),
}
"""What each factor is made from; the first names it in files."""


def keys_of(bands: Iterable[str]) -> list[str]:
    """Return the keys of `SOURCES` that some bands and factors read, sorted.

    Examples
    --------
    >>> keys_of(["slope", "TWI"])
    ['dem', 'upslope']
    """
    made_from = STACK_SOURCES | FACTOR_SOURCES
    return sorted({key for name in bands for key in made_from.get(name, ())})


def attributions(keys: Iterable[str], replaced: Iterable[str] = ()) -> list[dict[str, object]]:
    """Return who is to be named for some sources, for items and reports.

    Parameters
    ----------
    keys : iterable of str
    replaced : iterable of str
        Keys for which the user named other data: their terms are not known here.

    Examples
    --------
    >>> found = attributions(["upslope", "dem"], replaced=["dem"])
    >>> [(f["source"], f["non_commercial"]) for f in found]
    [('dem', None), ('upslope', True)]
    """
    own = set(replaced)
    rows: list[dict[str, object]] = []
    for key in sorted(set(keys)):
        source = SOURCES[key]
        if key in own or source.id is None:
            rows.append(
                {"source": key, "attribution": _OWN, "licence": _OWN, "non_commercial": None}
            )
            continue
        rows.append(
            {
                "source": key,
                "title": source.title,
                "attribution": source.attribution,
                "licence": source.licence,
                "non_commercial": source.non_commercial,
                **({"note": source.note} if source.note else {}),
            }
        )
    return rows
