"""Band names, units and fills; the settings (subsets of bands) that models are trained on.

Names and order are those of Ganerod et al. (2024), Table 2; settings are their Table 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from thawslump.errors import ConfigError, nearest

__all__ = [
    "BANDS",
    "CHANGE_STACK",
    "CONTEXT",
    "EMBEDDING",
    "FACTORS",
    "FACTORS_HE2024",
    "FACTORS_ZHANG2023",
    "FACTOR_SETS",
    "SETTINGS",
    "Band",
    "bands_of",
]


@dataclass(frozen=True)
class Band:
    """One band of a stack.

    Attributes
    ----------
    name, unit, description : str
    origin : {"S1", "S2", "terrain", "ancillary"}
    categorical : bool
        Values are class numbers: never averaged.
    mask : bool
        The classes are yes (1) and no (0): one channel of a model, as it is.
    """

    name: str
    unit: str
    description: str
    origin: str
    categorical: bool = False
    mask: bool = False


BANDS: dict[str, Band] = {
    band.name: band
    for band in (
        Band("preVV", "dB", "median VV backscatter before, averaged in linear power", "S1"),
        Band("postVV", "dB", "median VV backscatter after, averaged in linear power", "S1"),
        Band("dVV", "dB", "postVV - preVV", "S1"),
        Band("preVH", "dB", "median VH backscatter before, averaged in linear power", "S1"),
        Band("postVH", "dB", "median VH backscatter after, averaged in linear power", "S1"),
        Band("dVH", "dB", "postVH - preVH", "S1"),
        Band("layover", "1", "1 where layover distorts the radar image", "S1", True, True),
        Band("shadow", "1", "1 where radar shadow hides the ground", "S1", True, True),
        Band("liaDeg", "degree", "local incidence angle", "S1"),
        Band("elevation", "m", "height above the ellipsoid or geoid of the DEM", "terrain"),
        Band("slope", "degree", "steepness of the terrain", "terrain"),
        Band("KG_climate", "1", "Koeppen-Geiger climate class", "ancillary", True),
        Band("Popatpv_treeheight", "m", "canopy height", "ancillary"),
        Band("CART_LC_classified", "1", "CART land cover class", "S2", True),
        Band("dNDVI", "1", "NDVI after - NDVI before, greenest pixels", "S2"),
        Band("aspect", "degree", "direction the slope faces, clockwise from north", "terrain"),
        Band("NDVI", "1", "NDVI before, greenest pixel", "S2"),
        Band("curvature", "1/m", "total curvature, convex positive", "terrain"),
        Band("plan_curvature", "1/m", "curvature along the contour, convex positive", "terrain"),
        Band("profile_curvature", "1/m", "curvature along the slope, convex positive", "terrain"),
        Band("TPI", "m", "height above the mean of the eight neighbours", "terrain"),
        Band("TRI", "m", "ruggedness after Riley et al. (1999)", "terrain"),
        Band(
            "TRI_range", "m", "ruggedness of Zhang et al. (2023): root of |max2 - min2|", "terrain"
        ),
        Band("TWI", "1", "ln(upslope area per contour length / tan slope)", "ancillary"),
        Band("SPI", "m", "upslope area per contour length * tan slope", "ancillary"),
        Band(
            "upslope_cut",
            "1",
            "1 where the catchment reaches beyond the heights at hand: TWI and SPI are too low",
            "ancillary",
            True,
            True,
        ),
        Band("slope_horn", "degree", "steepness from eight neighbours (Horn 1981)", "terrain"),
        Band("aspect_horn", "degree", "direction of the slope, from eight neighbours", "terrain"),
        Band("LST", "degree Celsius", "mean clear-sky surface temperature before", "ancillary"),
        Band("LST_days", "days", "clear days that LST is the mean of", "ancillary"),
        Band("precipitation", "mm", "sum of the twelve months before", "ancillary"),
        Band("distance_faults", "m", "distance to faults", "ancillary"),
        Band("distance_rivers", "m", "distance to rivers", "ancillary"),
        Band("distance_roads", "m", "distance to roads", "ancillary"),
        Band("distance_railway", "m", "distance to the railway", "ancillary"),
        Band("lithology", "1", "lithology class", "ancillary", True),
        Band("landcover", "1", "land cover class", "ancillary", True),
        Band("permafrost", "1", "permafrost class", "ancillary", True),
        *(
            Band(f"A{n:02d}", "1", "axis of the satellite embedding", "ancillary")
            for n in range(64)
        ),
    )
}

CHANGE_STACK = (
    "preVV",
    "postVV",
    "dVV",
    "preVH",
    "postVH",
    "dVH",
    "layover",
    "shadow",
    "liaDeg",
    "elevation",
    "slope",
    "KG_climate",
    "Popatpv_treeheight",
    "CART_LC_classified",
    "dNDVI",
)
"""The 15 bands of Ganerod et al. (2024), Table 2; one that the sources cannot give is absent."""

FACTORS = ("elevation", "slope", "aspect", "NDVI")
"""Conditioning factors at 30 m, where a site file names none."""

FACTORS_HE2024 = (
    "elevation",
    "slope",
    "aspect",
    "distance_faults",
    "NDVI",
    "LST",
    "curvature",
    "lithology",
    "permafrost",
    "distance_railway",
    "distance_rivers",
    "TWI",
    "precipitation",
    "landcover",
)
"""The 14 factors of He et al. (2024), in their order (section II-C)."""

FACTORS_ZHANG2023 = (
    "slope",
    "aspect",
    "plan_curvature",
    "profile_curvature",
    "elevation",
    "TWI",
    "SPI",
    "TPI",
    "TRI_range",
    "lithology",
    "landcover",
    "distance_faults",
    "distance_rivers",
    "distance_roads",
)
"""Those of the 17 factors of Zhang et al. (2023) that are maps, in their order (section 3.4); the
other three are shares of InSAR time series, of polygons."""

FACTOR_SETS = {"he2024": FACTORS_HE2024, "zhang2023": FACTORS_ZHANG2023}
"""Names that a site file may give instead of a list of factors."""

EMBEDDING = tuple(f"A{number:02d}" for number in range(64))
"""Bands of the satellite embedding."""

CONTEXT = (
    "pre_red",
    "pre_green",
    "pre_blue",
    "pre_nir",
    "post_red",
    "post_green",
    "post_blue",
    "post_nir",
    "hillshade",
    "pre_observations",
    "post_observations",
)
"""What reviewers look at: reflectance * 10000, hillshade 0..255, days with clear ground."""

_S1 = ("preVV", "postVV", "dVV", "preVH", "postVH", "dVH", "layover", "shadow", "liaDeg")
_S2 = ("CART_LC_classified", "dNDVI")
SETTINGS: dict[str, tuple[str, ...]] = {
    "S1": _S1,
    "S2": _S2,
    "S1+S2": _S1 + _S2,
    "all": (*_S1, "elevation", "slope", "KG_climate", "Popatpv_treeheight", *_S2),
}


def bands_of(setting: str, present: tuple[str, ...]) -> tuple[str, ...]:
    """Return the bands of a setting that a tile has, in the order of the setting.

    Parameters
    ----------
    setting : str
        A key of `SETTINGS`.
    present : tuple of str
        Bands of the tile. Bands of no setting ("all" excepted) follow at the end for "all".

    Raises
    ------
    ConfigError
        Unknown setting, or none of its bands is present.

    Examples
    --------
    >>> bands_of("S2", ("dVV", "dNDVI"))
    ('dNDVI',)
    >>> bands_of("all", ("dNDVI", "slope", "thermal"))
    ('slope', 'dNDVI', 'thermal')
    """
    if setting not in SETTINGS:
        raise ConfigError(
            f"There is no band setting {setting!r}; there are {', '.join(SETTINGS)}."
            + nearest(setting, SETTINGS)
        )
    chosen = tuple(name for name in SETTINGS[setting] if name in present)
    if setting == "all":
        chosen += tuple(name for name in present if name not in SETTINGS["all"])
    if not chosen:
        raise ConfigError(
            f"Setting {setting!r} wants {', '.join(SETTINGS[setting])}, "
            f"but the tile has only {', '.join(present)}.",
            hint="Choose another setting for the runs under `segmentation:`.",
        )
    return chosen
