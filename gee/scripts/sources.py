"""Where the data come from by default, who is to be named for them, and under which licence.

Needs no Earth Engine client: plans read it too. `Site.sources` replaces any id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from thawslump.errors import ConfigError

__all__ = [
    "FACTOR_SOURCES",
    "MARGIN",
    "REACH",
    "SOURCES",
    "STACK_SOURCES",
    "UPSLOPE",
    "Source",
    "attributions",
    "catchment_margin",
    "is_file",
    "keys_of",
    "resembles",
]


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
    citation : str
        The paper or data set to cite, with its doi.
    """

    key: str
    id: str | None
    title: str
    attribution: str
    licence: str
    non_commercial: bool = False
    note: str = ""
    citation: str = ""


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
            note="a surface of 2011 to 2015 with trees and buildings, heights above EGM2008",
            citation="European Space Agency 2024, doi 10.5270/ESA-c5d3d65",
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
            citation="Yamazaki et al. 2019, Water Resources Research 55, doi 10.1029/2019WR024873",
        ),
        Source(
            "lst",
            "LANDSAT/LC08/C02/T1_L2",
            "Landsat 8 (or 9) Collection 2 Level 2, surface temperature",
            "Landsat image courtesy of the U.S. Geological Survey",
            "public domain",
            note="from 2013 on; made with ASTER emissivities, and missing where those are",
            citation="U.S. Geological Survey, doi 10.5066/P9OGBGM6",
        ),
        Source(
            "precipitation",
            "ECMWF/ERA5_LAND/MONTHLY_AGGR",
            "ERA5-Land, monthly",
            "Contains modified Copernicus Climate Change Service information",
            "Copernicus C3S terms",
            note="about 11 km: one value for a whole site, or a few; a reanalysis, not measured",
            citation="Munoz Sabater 2019, doi 10.24381/cds.68d2bb30",
        ),
        Source(
            "landcover",
            "ESA/WorldCover/v200",
            "ESA WorldCover 2021",
            "(c) ESA WorldCover project 2021 / Contains modified Copernicus Sentinel data (2021) "
            "processed by ESA WorldCover consortium",
            "CC-BY 4.0",
            note="a map of 2021: slumps that are older may be its classes, not their cause",
            citation="Zanaga et al. 2022, doi 10.5281/zenodo.7254221",
        ),
        Source(
            "embedding",
            "GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL",
            "Satellite Embedding V1, annual",
            "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and "
            "Google DeepMind.",
            "CC-BY 4.0",
            note="from 2017 on; a year after the change shows the slumps themselves: the last "
            "whole year before it is taken",
            citation="Brown et al. 2025, doi 10.48550/arXiv.2507.22291",
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

REACH: dict[str, float] = {
    "faults": 100_000.0,
    "rivers": 20_000.0,
    "roads": 20_000.0,
    "railway": 20_000.0,
}
"""Metres beyond which no line is looked for: farther counts as this far. Faults are classed up to
60 km in He et al. (2024), the others up to 5 km there and 11 km in Zhang et al. (2023)."""

UPSLOPE = ("TWI", "SPI", "upslope_cut", "distance_rivers")
"""Factors made from the upslope area; the last one only without a table of rivers."""

MARGIN = 5_000.0
"""Metres around a site that `sources.upslope: local` takes its catchments from."""

_FILES = (".gpkg", ".geojson", ".json", ".shp", ".fgb")

FACTOR_SOURCES: dict[str, tuple[str, ...]] = {
    "elevation": ("dem",),
    "slope": ("dem",),
    "aspect": ("dem",),
    "slope_horn": ("dem",),
    "aspect_horn": ("dem",),
    "curvature": ("dem",),
    "plan_curvature": ("dem",),
    "profile_curvature": ("dem",),
    "TPI": ("dem",),
    "TRI": ("dem",),
    "TRI_range": ("dem",),
    "TWI": ("upslope", "dem"),
    "SPI": ("upslope", "dem"),
    "upslope_cut": ("upslope", "dem"),
    "NDVI": ("s2", "cloud_score"),
    "LST": ("lst",),
    "LST_days": ("lst",),
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


def is_file(name: str) -> bool:
    """Tell whether a source is a vector file, not the id of an asset.

    Examples
    --------
    >>> is_file("data/faults.gpkg"), is_file("projects/p/assets/faults")
    (True, False)
    """
    return name.lower().endswith(_FILES)


def resembles(key: str, name: str) -> bool:
    """Tell whether an asset has the bands, units and dates of the default for `key`.

    Other assets are maps: their first band is taken as it is, in the factor's unit.

    Examples
    --------
    >>> resembles("lst", "LANDSAT/LC09/C02/T1_L2"), resembles("lst", "users/a/temperature")
    (True, False)
    """
    default = SOURCES[key].id
    landsat = key == "lst" and name.startswith("LANDSAT/LC0") and name.endswith("/C02/T1_L2")
    release = key == "dem" and default is not None and name.startswith(f"{default}_")
    return name == default or landsat or release


def catchment_margin(upslope: str) -> float | None:
    """Return the margin in metres where the upslope area is computed here, None for an asset.

    Parameters
    ----------
    upslope : str
        ``sources.upslope``: ``local``, ``local:METRES`` or an asset id.

    Raises
    ------
    ConfigError
        ``local:`` followed by no number of metres.

    Examples
    --------
    >>> catchment_margin("local"), catchment_margin("local:12000"), catchment_margin("users/a/b")
    (5000.0, 12000.0, None)
    """
    word, _, metres = upslope.partition(":")
    if word != "local":
        return None
    if not metres:
        return MARGIN
    try:
        margin = float(metres)
    except ValueError:
        margin = -1.0
    if not 0 <= margin <= 100_000:
        raise ConfigError(
            f"sources.upslope is {upslope}; expected local:METRES with 0 to 100000 metres.",
            hint="Write local (5000 m around the site) or, for instance, local:12000.",
        )
    return margin


def attributions(
    keys: Iterable[str], replaced: Mapping[str, str] | Iterable[str] = ()
) -> list[dict[str, object]]:
    """Return who is to be named for some sources, for items and reports.

    Parameters
    ----------
    keys : iterable of str
    replaced : mapping of str to str, or iterable of str
        `Site.sources`: keys for which the user named other data, whose terms are not known here.

    Returns
    -------
    list of dict
        ``source``, ``id`` (None where not known), ``title``, ``attribution``, ``licence``,
        ``non_commercial`` (None where the terms are not known), and where there are any
        ``citation`` and ``note``.

    Examples
    --------
    >>> found = attributions(["upslope", "dem"], replaced=["dem"])
    >>> [(f["source"], f["non_commercial"]) for f in found]
    [('dem', None), ('upslope', True)]
    """
    own = dict(replaced) if isinstance(replaced, Mapping) else dict.fromkeys(replaced)
    rows: list[dict[str, object]] = []
    for key in sorted(set(keys)):
        source = SOURCES[key]
        name = own.get(key, source.id)
        row: dict[str, object] = {"source": key, "id": name, "title": source.title}
        if key == "upslope" and name is not None and catchment_margin(name) is not None:
            rows.append(
                row
                | {
                    "title": "upslope area, computed from the DEM on this machine",
                    "attribution": "computed by thawslump with pyflwdir (Eilander et al., MIT)",
                    "licence": "that of the DEM",
                    "non_commercial": False,
                    "citation": "Eilander et al. 2021, doi 10.5194/hess-25-5287-2021",
                }
            )
        elif name is None or not resembles(key, name):
            title = source.title if source.id is None else f"own data in place of {source.title}"
            terms = {"attribution": _OWN, "licence": _OWN, "non_commercial": None}
            rows.append(row | {"title": title} | terms)
        else:
            rows.append(
                row
                | {
                    "attribution": source.attribution,
                    "licence": source.licence,
                    "non_commercial": source.non_commercial,
                    **({"citation": source.citation} if source.citation else {}),
                    **({"note": source.note} if source.note else {}),
                }
            )
    return rows
