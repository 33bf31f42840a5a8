"""Sentinel-2 of the made-up valley: sun, seasons, clouds, and change only where it is declared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import ndimage

from gee.valley import landscape, optical, place
from gee.valley.landscape import Landscape
from gee.valley.optical import SCL
from gee.valley.scenes import Scenes, optical_passes
from thawslump.vector import rasterize

CLOUDED = (SCL["no data"], SCL["shadow"], SCL["cloud medium"], SCL["cloud high"], SCL["cirrus"])


@pytest.fixture(scope="module")
def land() -> Landscape:
    return landscape.make(5, (224, 192))


@pytest.fixture(scope="module")
def series(land: Landscape) -> list[tuple[datetime, np.ndarray, np.ndarray]]:
    """Time, NDVI and scene classes (both at 10 m) of every scene."""
    scenes = Scenes(land)
    found = []
    for each in optical_passes(land.seed):
        bands, _, _ = scenes.optical(each)
        index = optical.ndvi(bands["B4"].astype(np.float32), bands["B8"].astype(np.float32))
        classes = np.repeat(np.repeat(bands["SCL"], 2, axis=0), 2, axis=1)
        found.append((each.when, index, classes[: index.shape[0], : index.shape[1]]))
    return found


def greenest(series: list[tuple[datetime, np.ndarray, np.ndarray]], year: int) -> np.ndarray:
    """Maximum NDVI of the window of a year, clouds and snow masked; NaN where never seen."""
    window = place.PRE if year == place.PRE_YEAR else place.POST
    best = np.full(series[0][1].shape, -np.inf)
    for when, index, classes in series:
        if window[0] <= when.date() < window[1]:
            best = np.where(
                np.isin(classes, (*CLOUDED, SCL["snow"])), best, np.maximum(best, index)
            )
    return np.where(np.isfinite(best), best, np.nan)


def test_sun_against_the_almanac() -> None:
    "Noon heights at the solstices and equinox from latitude and declination; azimuth south at noon"
    for month, day, declination in ((6, 20, 23.44), (12, 21, -23.44), (3, 20, 0.0)):
        when = datetime(2023, month, day, 12, tzinfo=UTC)
        heights = [optical.sun(when + timedelta(minutes=m), 0.0, 50.0) for m in range(-30, 31)]
        zenith, azimuth = min(heights)
        assert zenith == pytest.approx(50.0 - declination, abs=0.5)
        assert azimuth == pytest.approx(180.0, abs=1.0)
    morning = optical.sun(datetime(2023, 3, 20, 7, tzinfo=UTC), 0.0, 50.0)[1]
    assert 90 < morning < 130


def test_sun_stays_up_at_midsummer() -> None:
    "Polar day: at 71 north the sun is up at midnight in June and down in December"
    assert optical.sun(datetime(2023, 6, 21, 15, 24, tzinfo=UTC), 129.0, 71.3)[0] < 90
    assert optical.sun(datetime(2023, 12, 21, 3, 24, tzinfo=UTC), 129.0, 71.3)[0] > 90


def test_clear_tundra_has_a_season(
    land: Landscape, series: list[tuple[datetime, np.ndarray, np.ndarray]]
) -> None:
    "NDVI is low under snow, peaks in July and August, and has fallen by late September"
    calm = (land.distractors == 0) & (land.pre.green > 0.6)
    calm &= rasterize([s.outline.buffer(30) for s in land.slumps], land.frame.geobox) == 0
    calm = calm[land.inner]
    for year in (place.PRE_YEAR, place.POST_YEAR):
        means = {}
        for when, index, classes in series:
            seen = calm & ~np.isin(classes, CLOUDED)
            if when.year == year and seen.sum() > 500:
                means[when.timetuple().tm_yday] = float(index[seen].mean())
        peak = max(means, key=lambda day: means[day])
        assert 190 <= peak <= 232
        assert 0.5 < means[peak] < 0.85
        early = [value for day, value in means.items() if day < 150]
        late = [value for day, value in means.items() if day > 262]
        assert all(value < 0.25 for value in early)
        assert all(value < 0.6 * means[peak] for value in late)


def test_change_lies_in_the_truth(
    land: Landscape, series: list[tuple[datetime, np.ndarray, np.ndarray]]
) -> None:
    "Greenest-pixel change: strong inside slumps, noise outside slumps and declared look-alikes"
    change = greenest(series, place.POST_YEAR) - greenest(series, place.PRE_YEAR)
    inside = rasterize([s.outline for s in land.slumps], land.frame.geobox)[land.inner] > 0
    near = rasterize([s.outline.buffer(30) for s in land.slumps], land.frame.geobox)[land.inner] > 0
    water = ndimage.binary_dilation((land.river | land.lake)[land.inner], iterations=3)
    green = land.pre.green[land.inner] > 0.4
    calm = ~near & ~water & (land.distractors[land.inner] == 0) & green & np.isfinite(change)
    noise = float(np.std(change[calm]))
    assert noise < 0.09
    assert abs(float(np.mean(change[calm]))) < 0.05
    assert np.mean(np.abs(change[calm]) > 5 * noise) < 0.004
    assert np.nanmean(change[inside]) < -2.0 * noise


def test_classes_agree_with_the_sky(land: Landscape) -> None:
    "Where the class says clear land, clouds are thin; nearly all thick cloud is found"
    scenes = Scenes(land)
    each = next(p for p in optical_passes(land.seed) if 0.25 < p.cloud < 0.8 and p.day > 165)
    zenith, azimuth = optical.sun(each.when, 129.0, 71.33)
    clouds = optical.sky(
        scenes.frame.shape,
        10.0,
        each.cloud,
        zenith,
        azimuth,
        place.random(land.seed, "clouds", each.when.date().isoformat()),
    )
    bands, _, facts = scenes.optical(each)
    thick = optical.coarsen(clouds.cloud, 2)
    clear = np.isin(bands["SCL"], (SCL["vegetation"], SCL["bare"], SCL["water"]))
    assert np.mean(thick[clear] < 0.5) > 0.995
    found = np.isin(bands["SCL"], (*CLOUDED, SCL["no data"]))
    assert found[thick > 0.8].mean() > 0.99
    assert sum(facts[name] for name in SCL) == pytest.approx(100.0)


def test_cloud_score_knows_clear_from_hidden(land: Landscape) -> None:
    "Where cs is above 0.6 the ground is seen; errors are there, and few; cs_cdf is more lenient"
    scenes = Scenes(land)
    wrong, missed = [], []
    for each in optical_passes(land.seed):
        if not 0.2 < each.cloud < 0.8 or not 165 < each.day < 250:
            continue
        zenith, azimuth = optical.sun(each.when, 129.0, 71.33)
        chance = place.random(land.seed, "clouds", each.when.date().isoformat())
        clouds = optical.sky(scenes.frame.shape, 10.0, each.cloud, zenith, azimuth, chance)
        bands, _, _ = scenes.optical(each)
        kept = bands["cs"] > 0.6
        hidden = np.maximum(clouds.cloud, clouds.shadow) > 0.5
        wrong.append(kept[hidden].mean())
        clear = np.maximum(np.maximum(clouds.cloud, clouds.shadow), 5 * clouds.cirrus) < 0.05
        missed.append((~kept)[clear].mean())
        assert (bands["cs_cdf"] > 0.6).mean() >= kept.mean() - 0.02
    assert len(wrong) >= 3
    assert 0.0 < np.mean(wrong) < 0.12
    assert 0.0 < np.mean(missed) < 0.08


def test_shadows_fall_away_from_the_sun() -> None:
    "The shadow field is the cloud field moved away from the sun"
    clouds = optical.sky((300, 300), 10.0, 0.3, 45.0, 180.0, np.random.default_rng(6))
    best = max(
        range(-250, 251, 5),
        key=lambda lag: float(
            np.corrcoef(
                clouds.cloud[max(lag, 0) : 300 + min(lag, 0)].ravel(),
                clouds.shadow[max(-lag, 0) : 300 - max(lag, 0)].ravel(),
            )[0, 1]
        ),
    )
    # The sun in the south: shadow lies north of the cloud, on a smaller row number.
    assert 85 <= best <= 225


def test_reflectance_of_pure_ground_is_its_spectrum() -> None:
    "No cloud, no slope: every band shows the material"
    shares = np.zeros((7, 6, 6), np.float32)
    shares[3] = 1.0
    none = np.zeros((6, 6), np.float32)
    seen = optical.reflectance(
        shares, none, none, none + 1, optical.Sky(none, none, none), optical.BANDS, 10.0
    )
    for position, (name, size) in enumerate(optical.BANDS.items()):
        assert seen[name].shape == (60 // size, 60 // size)
        assert seen[name] == pytest.approx(optical.SPECTRA["gravel"][position], abs=1e-5)


def test_scenes_do_not_depend_on_their_order(land: Landscape) -> None:
    "One scene alone has the bytes that it has in the whole series"
    each = optical_passes(land.seed)[7]
    alone, _, _ = Scenes(land).optical(each)
    busy = Scenes(land)
    for other in optical_passes(land.seed)[5:7]:
        busy.optical(other)
    again, _, _ = busy.optical(each)
    assert all(alone[name].tobytes() == again[name].tobytes() for name in alone)


def test_every_summer_has_scenes_in_its_window() -> None:
    "Ten dates in each window, snowy ones outside"
    for seed in range(6):
        days = [each.when.date() for each in optical_passes(seed)]
        for start, end in (place.PRE, place.POST):
            assert sum(start <= day < end for day in days) == 10
        assert len(set(days)) == len(days) == 28
