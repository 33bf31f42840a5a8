"""A Site (to train, validate, test on) or an Area (to map): where, when, from which sources."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thawslump.bands import CHANGE_STACK, CONTEXT, FACTOR_SETS, FACTORS
from thawslump.errors import ConfigError, nearest

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["Site", "Window"]


class Window(BaseModel):
    """A date window; `end` is not part of it, as with Earth Engine's filterDate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: date = Field(description="first day, YYYY-MM-DD")
    end: date = Field(description="day after the last, YYYY-MM-DD")

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.start >= self.end:
            raise ValueError(
                f"start {self.start} is not before end {self.end}; give the earlier day first"
            )
        return self

    def __str__(self) -> str:
        return f"{self.start} .. {self.end}"


class Site(BaseModel):
    """A place with its dates and sources.

    Examples
    --------
    >>> site = Site(name="a", role="area", bounds=(129.0, 71.8, 129.1, 71.82),
    ...             pre=Window(start="2020-06-15", end="2020-09-01"),
    ...             post=Window(start="2023-06-15", end="2023-09-01"))
    >>> str(site.grid().crs)
    'EPSG:32652'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="letters, digits, - _ . only: it names folders",
    )
    role: Literal["train", "validation", "test", "area"] = Field(
        description="train, validation, test (outlines known) or area (to be mapped)"
    )
    bounds: tuple[float, float, float, float] = Field(
        description="west, south, east, north in degrees; west above east crosses 180 degrees"
    )
    crs: str | None = Field(None, description="projected CRS; none is the UTM zone of the centre")
    resolution: float = Field(10.0, gt=0, le=1000, description="pixel size, units of the CRS")
    block: int = Field(
        3072,
        ge=64,
        le=16384,
        description="pixels; an area that is longer is mapped in parts of at most this side",
    )
    pre: Window | None = Field(None, description="window before the change")
    post: Window | None = Field(None, description="window after the change, same season")
    event: date | None = Field(
        None, description="day of the change; with months and season it gives both windows"
    )
    months: int | None = Field(
        None, ge=1, le=60, description="length of the windows that an event gives; 1, 2, 12 usual"
    )
    season: Literal["same", "around"] = Field(
        "same",
        description="windows of an event: same months of two years, or around the event",
    )
    outlines: Path | None = Field(
        None, description="polygons of known slumps; the whole site then counts as looked at"
    )
    source: Literal["earthengine", "files"] = Field(
        "earthengine", description="earthengine, or files for own rasters (`tiles import`)"
    )
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="asset ids in place of the defaults, keys s1, s2, dem and those of the factors",
    )
    bands: tuple[str, ...] = Field(
        CHANGE_STACK,
        min_length=1,
        description="bands of the change stack; one that the sources cannot give is left out",
    )
    factors: tuple[str, ...] = Field(
        FACTORS,
        min_length=1,
        description="conditioning factors, or a set of them: he2024 or zhang2023; "
        "docs/factors.md lists them",
    )
    slope_correction: Literal["auto", "per_pixel", "volume", "surface", "none"] = Field(
        "auto",
        description="model of the Sentinel-1 slope correction (Vollrath et al. 2020): auto takes "
        "the one of most of the site's land cover, per_pixel that of each pixel of ESA WorldCover",
    )
    speckle_filter: int | None = Field(
        None,
        ge=3,
        le=31,
        description="side of the multi-temporal speckle filter's window in pixels, odd; none: off",
    )
    cast_shadow: bool = Field(
        False,
        description="radar shadow that other ground casts counts as shadow too; each tile then "
        "reads the DEM some 70 times",
    )
    cloud_mask: Literal["auto", "cloud_score", "scl"] = Field(
        "auto",
        description="clouds of Sentinel-2 by Cloud Score+, by the scene classification (scl), or "
        "auto: the first where it exists",
    )
    cloud_score_threshold: float = Field(
        0.6, ge=0, le=1, description="Cloud Score+ from which ground counts as seen"
    )
    landcover_points: Path | None = Field(
        None,
        description="vector file with a column `landcover` (classes 1 to 8) to train the land "
        "cover on; none draws points from ESA WorldCover",
    )
    orbit_pass: Literal["ASCENDING", "DESCENDING"] | None = Field(
        "DESCENDING", description="Sentinel-1 pass; none takes both"
    )
    relative_orbit: int | None = Field(
        None,
        ge=1,
        le=175,
        description="relative orbit of Sentinel-1; none takes the one that shows the site most",
    )
    made_up: bool = Field(False, description="the data are made up")

    @model_validator(mode="after")
    def _from_event(self) -> Site:
        """Fill `pre` and `post` from the day of the change; refuse what contradicts it."""
        # windows.py is written in terms of Window.
        from thawslump.windows import around, same_season

        if self.event is None:
            for name, value in (("months", self.months), ("season", self.season)):
                if value not in (None, "same"):
                    raise ValueError(
                        f"{name} is {value}, but there is no event that windows could be counted "
                        "from; give event: YYYY-MM-DD, or pre and post without months and season"
                    )
            return self
        if self.months is None:
            raise ValueError(
                f"event {self.event} needs months, the length of the windows before and after; "
                "1, 2 and 12 are usual"
            )
        try:
            pair = (around if self.season == "around" else same_season)(self.event, self.months)
        except ConfigError as error:
            raise ValueError(f"{error.message} {error.hint}") from None
        for side, derived in (("pre", pair.pre), ("post", pair.post)):
            given = getattr(self, side)
            if given is not None and given != derived:
                raise ValueError(
                    f"{side} is {given}, but event {self.event} with months {self.months} and "
                    f"season {self.season} gives {derived}; remove pre and post, or remove event "
                    "and months"
                )
        # The model is frozen for everyone else.
        self.__dict__.update(pre=pair.pre, post=pair.post)
        return self

    @model_validator(mode="after")
    def _windows(self) -> Site:
        if self.source == "earthengine" and (self.pre is None or self.post is None):
            raise ValueError(
                "pre and post windows are needed to export from Earth Engine; "
                "give both, or event and months, or set source: files for own rasters"
            )
        if self.role != "area" and self.outlines is None:
            raise ValueError(
                f"a site with role {self.role} needs `outlines` (a vector file of known slumps); "
                "without them its role can only be area"
            )
        return self

    @field_validator("factors", mode="before")
    @classmethod
    def _factor_set(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given not in FACTOR_SETS:
            raise ValueError(
                f'there is no set of factors "{given}"; there are {", ".join(FACTOR_SETS)}, or '
                "give a list of factors." + nearest(given, FACTOR_SETS)
            )
        return FACTOR_SETS[given]

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in CHANGE_STACK:
                raise ValueError(
                    f'the change stack has no band "{name}"; it has {", ".join(CHANGE_STACK)}.'
                    + nearest(name, CHANGE_STACK)
                )
        if len(set(names)) < len(names):
            raise ValueError("a band is named twice")
        return names

    @field_validator("speckle_filter")
    @classmethod
    def _odd(cls, side: int | None) -> int | None:
        if side is not None and side % 2 == 0:
            raise ValueError(f"a window of {side} pixels has no middle; give an odd number")
        return side

    def as_given(self) -> Site:
        """Return the site as its file holds it: without the windows that its event gives.

        Examples
        --------
        >>> site = Site(name="a", role="area", bounds=(129.0, 71.8, 129.1, 71.82),
        ...             event="2023-05-16", months=2)
        >>> str(site.post), site.as_given().post
        ('2023-05-17 .. 2023-07-17', None)
        """
        if self.event is None:
            return self
        return self.model_copy(update={"pre": None, "post": None})

    def grid(self) -> GeoBox:
        """Return the pinned grid of the site's tile."""
        from thawslump.grid import grid_over

        return grid_over(self.bounds, self.resolution, self.crs)

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the bands that reviewers look at."""
        return CONTEXT
