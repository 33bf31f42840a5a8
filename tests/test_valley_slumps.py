"""Slumps of the made-up valley: sizes, shapes, places, and what changes. All data are made up."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import stats

from gee.valley import landcover, landscape, slumps, terrain
from gee.valley.landscape import Landscape
from thawslump.vector import rasterize


@pytest.fixture(scope="module")
def land() -> Landscape:
    return landscape.make(1, (512, 384))


@pytest.mark.parametrize("exponent", [1.4, 1.8, 2.5])
def test_areas_follow_their_power_law(exponent: float) -> None:
    "Kolmogorov-Smirnov against the analytic law, and the fitted exponent within its error"
    areas = slumps.power_law(4000, np.random.default_rng(3), exponent=exponent)
    low, high = slumps.SMALLEST ** (1 - exponent), slumps.LARGEST ** (1 - exponent)

    def law(area: np.ndarray) -> np.ndarray:
        return (low - area ** (1 - exponent)) / (low - high)

    assert stats.kstest(areas, law).pvalue > 0.01
    fitted, error = slumps.fit_exponent(areas)
    assert abs(fitted - exponent) < 3 * error


def test_error_of_the_exponent_is_its_scatter() -> None:
    "Standard deviation over 200 samples against the error that is reported"
    chance = np.random.default_rng(8)
    found = [slumps.fit_exponent(slumps.power_law(150, chance)) for _ in range(200)]
    exponents, errors = np.array(found).T
    assert np.std(exponents) == pytest.approx(np.mean(errors), rel=0.2)
    assert np.mean(exponents) == pytest.approx(slumps.EXPONENT, abs=0.03)


def test_placed_slumps_keep_the_law(land: Landscape) -> None:
    "Placing does not prefer sizes: the exponent of the inventory agrees with the stated one"
    areas = [slump.area for slump in land.slumps]
    assert len(areas) > 40
    fitted, error = slumps.fit_exponent(areas)
    assert abs(fitted - slumps.EXPONENT) < 3 * error


def test_parts_make_up_the_outline() -> None:
    "Headwall, floor and tongue do not overlap, fill the outline, and lie in that order downhill"
    for seed in range(20):
        shape, parts, length = slumps.outline(12_000.0, np.random.default_rng(seed))
        assert shape.is_valid
        assert sum(part.area for part in parts.values()) == pytest.approx(12_000.0, rel=1e-6)
        assert shapely.union_all(list(parts.values())).area == pytest.approx(12_000.0, rel=1e-6)
        x = [parts[name].centroid.x for name in slumps.PARTS]
        assert x[0] < x[1] < x[2] <= length
        assert parts["headwall"].area < parts["floor"].area


def test_slumps_lie_where_ground_can_fail(land: Landscape) -> None:
    "On 1 to 18 degrees, ice-rich ground, off water and floodplain, none on another"
    slope = terrain.slope_degrees(terrain.relax(land.ground, 10.0, 40.0), 10.0)
    covered = np.zeros(land.frame.shape, np.uint8)
    for slump in land.slumps:
        mask = rasterize([slump.outline], land.frame.geobox).astype(bool)
        covered += mask
        inside = slope[mask]
        assert np.mean((inside >= 0.8) & (inside <= 18.5)) > 0.9
        assert land.ice[mask].mean() > 0.33
        assert not (land.river | land.lake)[mask].any()
    assert covered.max() == 1


def test_tongues_point_downhill(land: Landscape) -> None:
    "The head lies higher than the toe, on the ground before it failed"
    higher = 0
    for slump in land.slumps:
        heads = land.ground[
            rasterize([slump.parts["headwall"]], land.frame.geobox, all_touched=True) > 0
        ]
        toes = land.ground[
            rasterize([slump.parts["tongue"]], land.frame.geobox, all_touched=True) > 0
        ]
        higher += heads.mean() > toes.mean()
    assert higher >= 0.95 * len(land.slumps)


def test_susceptibility_ranks_the_places(land: Landscape) -> None:
    "Slumps lie where the process said they would: area under the ROC curve, heads against ground"
    inner = np.zeros(land.frame.shape, bool)
    inner[land.inner] = True
    inside = rasterize([s.outline for s in land.slumps], land.frame.geobox).astype(bool)
    area = stats.mannwhitneyu(
        land.susceptibility[inside], land.susceptibility[inner & ~inside][::7]
    )
    auc = area.statistic / (inside.sum() * (inner & ~inside)[inner & ~inside][::7].size)
    assert auc > 0.75
    expected = land.susceptibility[inner].sum() * 100.0
    assert expected == pytest.approx(sum(s.area for s in land.slumps), rel=0.05)


def test_carving_lowers_the_scar_and_lifts_the_tongue(land: Landscape) -> None:
    "Between the years the ground sinks in the floor, rises on the tongue, stays outside"
    change = land.post.height - land.pre.height
    fresh = [s for s in land.slumps if s.grown == 0]
    floors = rasterize([s.parts["floor"] for s in fresh], land.frame.geobox).astype(bool)
    tongues = rasterize([s.parts["tongue"] for s in fresh], land.frame.geobox).astype(bool)
    everywhere = rasterize([s.outline.buffer(45) for s in land.slumps], land.frame.geobox)
    assert change[floors].mean() < -0.8
    assert change[tongues].mean() > 0.05
    assert (change[everywhere == 0] == 0).all()


def test_cover_changes_only_where_it_is_declared(land: Landscape) -> None:
    "Bare ground is the same in both years outside slumps and declared look-alikes"
    moved = np.abs(land.post.shares - land.pre.shares).sum(axis=0)
    allowed = rasterize([s.outline.buffer(25) for s in land.slumps], land.frame.geobox) > 0
    allowed |= land.distractors > 0
    assert moved[~allowed].max() < 0.12
    inside = rasterize([s.outline for s in land.slumps], land.frame.geobox) > 0
    assert np.median(moved[inside]) > 0.25


def test_every_kind_of_look_alike_occurs(land: Landscape) -> None:
    "Fresh alluvium, pasture, drawdown, snow patches and old scars; drained lakes are rare"
    present = set(np.unique(land.distractors)) - {0}
    wanted = {code for name, code in landcover.DISTRACTORS.items() if name != "drained lake"}
    assert wanted <= present


def test_slumps_differ_in_freshness(land: Landscape) -> None:
    "Some are faint: the spread is part of the difficulty"
    fresh = np.array([s.freshness for s in land.slumps])
    assert fresh.min() < 0.4 and fresh.max() > 0.75 and fresh.std() > 0.1


def test_the_same_seed_gives_the_same_valley() -> None:
    "Equal bytes, and another seed gives another valley"
    first, again, other = (landscape.make(seed, (96, 112)) for seed in (2, 2, 3))
    assert first.post.shares.tobytes() == again.post.shares.tobytes()
    assert first.dem.tobytes() == again.dem.tobytes()
    assert [s.outline.wkb for s in first.slumps] == [s.outline.wkb for s in again.slumps]
    assert first.ground.tobytes() != other.ground.tobytes()
