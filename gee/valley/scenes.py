"""Which scenes the two satellites take of the valley, and how each of them looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gee.valley import optical, radar
from gee.valley.landscape import Landscape, Year
from gee.valley.noise import fractal
from gee.valley.optical import BANDS, SCL
from gee.valley.place import PIXEL, POST_YEAR, PRE_YEAR, Frame, random

__all__ = ["OpticalPass", "RadarPass", "Scenes", "optical_passes", "radar_passes"]

Array = NDArray[np.float32]
Bands = dict[str, NDArray[np.generic]]

LON, LAT = 129.0, 71.33
"""Centre of the valley, for the sun and the orbits."""

ANGLE_PIXEL = 1000.0
ANGLE_MARGIN = 6
"""Pixels of the incidence grid beyond the scene: its slope is then known at the edge, too."""

SUMMER = (17, 25, 33, 42, 50, 58, 67, 75, 83, 90)
"""Days after 31 May, about, of the Sentinel-2 scenes of a summer."""

VIEWS = {"ASCENDING": 36.4, "DESCENDING": 41.2}
"""Incidence angle in the middle of the valley, degrees."""


@dataclass(frozen=True)
class OpticalPass:
    """One Sentinel-2 scene.

    Attributes
    ----------
    when : datetime
        UTC.
    cloud : float
        Share of the scene under cloud, as drawn.
    cut : bool
        The edge of the swath crosses the scene: a corner has no data.
    craft : str
        Sentinel-2A or 2B.
    orbit : int
        Relative orbit.
    """

    when: datetime
    cloud: float
    cut: bool
    craft: str
    orbit: int

    @property
    def day(self) -> int:
        """Day of the year."""
        return self.when.timetuple().tm_yday


@dataclass(frozen=True)
class RadarPass:
    """One Sentinel-1 scene.

    Attributes
    ----------
    when : datetime
        UTC, start of the slice.
    ascending : bool
    orbit : int
        Absolute orbit.
    """

    when: datetime
    ascending: bool
    orbit: int

    @property
    def relative(self) -> int:
        """Relative orbit of Sentinel-1A."""
        return (self.orbit - 73) % 175 + 1

    @property
    def direction(self) -> str:
        """Value of orbitProperties_pass."""
        return "ASCENDING" if self.ascending else "DESCENDING"

    @property
    def day(self) -> int:
        """Day of the year."""
        return self.when.timetuple().tm_yday


def optical_passes(seed: int) -> list[OpticalPass]:
    """Return the Sentinel-2 scenes of both years, in order of time.

    Ten dates in each summer window and four snowy ones around it. In each summer two scenes are
    nearly clear, so that every place is seen at least once near the height of the season.
    """
    found = []
    for year in (PRE_YEAR, POST_YEAR):
        chance = random(seed, "sky", year)
        days = [SUMMER[i] + int(chance.integers(-1, 2)) for i in range(len(SUMMER))]
        days[0], days[-1] = max(days[0], 16), min(days[-1], 91)
        share = chance.beta(0.8, 1.1, len(days)) * 0.95
        clear = chance.choice(np.arange(3, 7), 2, replace=False)
        share[clear] = chance.uniform(0.01, 0.06, 2)
        share[int(chance.choice([0, 1, 8, 9]))] = 0.93
        cut = int(chance.choice([1, 2, 7]))
        dates = [
            (day, float(s), i == cut) for i, (day, s) in enumerate(zip(days, share, strict=True))
        ]
        dates += [(d, float(chance.uniform(0.02, 0.4)), False) for d in (-8, 4, 112, 121)]
        for number, (day, cloud, edge) in enumerate(sorted(dates)):
            minute = 25 + int(chance.integers(0, 3)) * 10
            when = datetime(year, 5, 31, 3, 5, tzinfo=UTC) + timedelta(days=day, minutes=minute)
            craft = "Sentinel-2A" if number % 2 == 0 else "Sentinel-2B"
            orbit = {25: 18, 35: 118, 45: 75}[minute]
            found.append(OpticalPass(when, cloud, edge, craft, orbit))
    return found


def radar_passes() -> list[RadarPass]:
    """Return the Sentinel-1A scenes of both windows: six of each pass, twelve days apart.

    Examples
    --------
    >>> passes = radar_passes()
    >>> len(passes), {p.relative for p in passes if p.ascending} == {passes[1].relative}
    (24, True)
    """
    found = []
    epoch = datetime(2020, 6, 14, tzinfo=UTC)  # about absolute orbit 33000
    for ascending, first in (
        (False, datetime(2020, 6, 18, 21, 51, 14, tzinfo=UTC)),
        (True, datetime(2020, 6, 21, 9, 27, 40, tzinfo=UTC)),
    ):
        orbit = 33000 + round((first - epoch) / timedelta(days=12) * 175)
        for repeat in (*range(6), *range(91, 97)):
            when = first + timedelta(days=12 * repeat)
            found.append(RadarPass(when, ascending, orbit + 175 * repeat))
    return sorted(found, key=lambda each: each.when)


@dataclass(frozen=True)
class Scenes:
    """Takes scenes of one landscape; every scene depends on nothing but the landscape and its date.

    Attributes
    ----------
    land : Landscape
    """

    land: Landscape

    @cached_property
    def frame(self) -> Frame:
        """The catalogued 10 m frame."""
        rows, cols = self.land.ground[self.land.inner].shape
        outer = self.land.frame
        margin = (outer.shape[0] - rows) // 2
        return Frame((rows, cols), PIXEL, outer.left + margin * PIXEL, outer.top - margin * PIXEL)

    def _year(self, when: datetime) -> Year:
        return self.land.pre if when.year == PRE_YEAR else self.land.post

    def snow(self, when: datetime) -> Array:
        """Return the share of every pixel under snow at a time (padded frame)."""
        year, day = self._year(when), when.timetuple().tm_yday
        spring = special.expit((year.melt - day) / 1.6)
        seed = self.land.seed
        drift = fractal(
            self.land.frame.shape,
            random(seed, "autumn snow", when.year),
            pixel=PIXEL,
            longest=700.0,
        )
        lies = (day - 268.0) / 3.0 + self.land.ground / 45.0 - 1.5 + 0.8 * drift
        autumn = special.expit(lies) if day > 250 else 0.0
        snow = np.maximum(spring, autumn) * (1.0 - 0.9 * year.shares[6])
        return np.asarray(np.where(snow < 0.02, 0.0, snow), np.float32)

    def optical(
        self, each: OpticalPass
    ) -> tuple[Bands, NDArray[np.bool_] | None, dict[str, float]]:
        """Return one Sentinel-2 scene.

        Returns
        -------
        bands : dict
            uint16 reflectance * 10000 by band (10, 20 and 60 m), SCL (uint8, 20 m), and cs and
            cs_cdf (float32, 10 m), which another collection holds.
        valid : bool array at 10 m or None
            False beyond the swath.
        facts : dict
            Sun and shares of the scene classes in percent.
        """
        land, inner = self.land, self.land.inner
        year = self._year(each.when)
        zenith, azimuth = optical.sun(each.when, LON, LAT)
        key = each.when.date().isoformat()
        shares = year.shares[:, *inner]
        melt = year.melt[inner]
        snow = self.snow(each.when)[inner]
        # Plants under a late snow patch start when it has gone, and catch up only in part.
        season = optical.phenology(each.day, np.maximum(melt + 13.0 - 175.0, -6.0))
        plants = shares[:3].sum(axis=0)
        green = np.minimum(year.green[inner] * season, plants) * (1.0 - snow)
        light = optical.shade(year.height, PIXEL, zenith, azimuth)[inner] * land.texture[inner]
        clouds = optical.sky(
            self.frame.shape, PIXEL, each.cloud, zenith, azimuth, random(land.seed, "clouds", key)
        )
        seen = optical.reflectance(shares, green, snow, light, clouds, BANDS, PIXEL)
        chance = random(land.seed, "sensor", key)
        bands: Bands = {}
        haze = float(chance.uniform(-0.003, 0.006))  # what the atmospheric correction leaves
        for name, value in seen.items():
            noisy = value * (
                1.0 + 0.012 * chance.standard_normal(value.shape, dtype=np.float32)
            ) + np.float32(haze)
            bands[name] = np.clip(np.rint(noisy * 10000.0), 1, 20000).astype(np.uint16)
        small = optical.Sky(
            *(optical.coarsen(a, 2) for a in (clouds.cloud, clouds.shadow, clouds.cirrus))
        )
        shape = small.cloud.shape
        misses = fractal(shape, random(land.seed, "misses", key), pixel=20.0, longest=200.0) > 1.1
        coarse = np.stack([optical.coarsen(part, 2) for part in shares])
        classes = optical.scene_classes(
            coarse, optical.coarsen(green, 2), optical.coarsen(snow, 2), small, misses
        )
        valid = None
        if each.cut:
            rows, cols = self.frame.shape
            r, c = np.mgrid[0:rows, 0:cols]
            side = chance.uniform(0.25, 0.6) * cols
            valid = (c - 0.25 * r) > -0.25 * rows * 0.6 + side * 0.15
            classes[~valid[::2, ::2][: shape[0], : shape[1]]] = SCL["no data"]
        bands["SCL"] = classes
        chance = random(land.seed, "cloud score", key)
        bands["cs"], bands["cs_cdf"] = optical.cloud_score(clouds, snow, chance, PIXEL)
        facts = {"sun_zenith": zenith, "sun_azimuth": azimuth}
        for name, code in SCL.items():
            facts[name] = float(100.0 * np.mean(classes == code))
        return bands, valid, facts

    def geometry(self, ascending: bool) -> radar.Geometry:
        """Return from where a pass sees the valley."""
        rows, cols = self.frame.shape
        return radar.Geometry(
            heading=radar.heading(LAT, ascending),
            incidence=VIEWS["ASCENDING" if ascending else "DESCENDING"],
            east=self.frame.left + cols * PIXEL / 2,
            north=self.frame.top - rows * PIXEL / 2,
        )

    def illumination(self, ascending: bool, year: int) -> radar.Illumination:
        """Return what the relief of a year does to a pass (padded frame)."""
        height = (self.land.pre if year == PRE_YEAR else self.land.post).height
        return radar.illuminate(height, PIXEL, self.geometry(ascending), *self.land.frame.centres())

    def angle(self, ascending: bool) -> tuple[Frame, Array]:
        """Return the coarse grid of incidence angles of a pass and its frame."""
        inner = self.frame
        rows = -(-int(inner.shape[0] * PIXEL) // int(ANGLE_PIXEL)) + 2 * ANGLE_MARGIN
        cols = -(-int(inner.shape[1] * PIXEL) // int(ANGLE_PIXEL)) + 2 * ANGLE_MARGIN
        left = np.floor(inner.left / ANGLE_PIXEL) * ANGLE_PIXEL - ANGLE_MARGIN * ANGLE_PIXEL
        top = np.ceil(inner.top / ANGLE_PIXEL) * ANGLE_PIXEL + ANGLE_MARGIN * ANGLE_PIXEL
        frame = Frame((rows + 1, cols + 1), ANGLE_PIXEL, float(left), float(top))
        return frame, radar.ground_angles(self.geometry(ascending), *frame.centres())

    def radar(self) -> Iterator[tuple[RadarPass, Bands]]:
        """Yield every Sentinel-1 scene: VV and VH, sigma nought in dB, float32 at 10 m."""
        yield from ((each, bands()) for each, bands in self.radar_lazy())

    def radar_lazy(self) -> Iterator[tuple[RadarPass, RadarScene]]:
        """Yield every scene with a call that makes its bands; those of one pass share geometry."""
        for year in (PRE_YEAR, POST_YEAR):
            for ascending in (False, True):
                shared = _RadarYear(self, year, ascending)
                for each in radar_passes():
                    if each.when.year == year and each.ascending == ascending:
                        yield each, RadarScene(shared, each)


class _RadarYear:
    """Geometry and backscatter that the scenes of one pass and year share; made when first used."""

    def __init__(self, scenes: Scenes, year: int, ascending: bool) -> None:
        self.scenes, self.year, self.ascending = scenes, year, ascending

    @cached_property
    def light(self) -> radar.Illumination:
        inner = self.scenes.land.inner
        light = self.scenes.illumination(self.ascending, self.year)
        return radar.Illumination(
            volume=light.volume[inner].copy(),
            surface=light.surface[inner].copy(),
            layover=light.layover[inner].copy(),
            shadow=light.shadow[inner].copy(),
            local=light.local[inner].copy(),
        )

    @cached_property
    def power(self) -> tuple[Array, Array]:
        land = self.scenes.land
        year = land.pre if self.year == PRE_YEAR else land.post
        return radar.backscatter(
            year.shares[:, *land.inner], year.shift[:, *land.inner], land.grain[:, *land.inner]
        )


@dataclass(frozen=True)
class RadarScene:
    """Makes the bands of one scene when called."""

    shared: _RadarYear
    each: RadarPass

    def __call__(self) -> Bands:
        """Return VV and VH in dB, float32."""
        scenes, when = self.shared.scenes, self.each.when
        land = scenes.land
        chance = random(land.seed, "radar", when.isoformat())
        wet = scenes.snow(when)[land.inner]
        volume, surface = self.shared.power
        weather = float(chance.normal(0.0, 0.35))
        wind = 10.0 ** (float(chance.normal(0.0, 2.0)) / 10.0)
        year = land.pre if self.shared.year == PRE_YEAR else land.post
        water = year.shares[6][land.inner]
        bands: Bands = {}
        for index, name in enumerate(("VV", "VH")):
            rough = surface[index] * (1.0 + water * np.float32(wind - 1.0))
            grains = radar.speckle(scenes.frame.shape, chance)
            bands[name] = radar.observe(
                volume[index], rough, self.shared.light, grains, wet, weather
            )
        return bands
