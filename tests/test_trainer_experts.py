"""Soft labels: agreement of experts, losses that learn shares, and the real outlines."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import LineString, Polygon, box
from sklearn.metrics import cohen_kappa_score, f1_score, jaccard_score
from torch.nn import functional

from thawslump import agreement
from thawslump.errors import ConfigError, DataError
from thawslump.raster import read_float
from trainer.chips import Chips, Scaling, Tile
from trainer.segmentation.experts import read_experts, write_soft
from trainer.segmentation.losses import LOSSES, SOFT_LOSSES, loss_function

ROOT = Path(__file__).resolve().parents[1]


def test_fleiss_kappa_of_the_paper() -> None:
    """Fleiss 1971: 30 patients, six psychiatrists, five diagnoses; he prints 0.430."""
    table = [
        [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0],
        [2, 0, 4, 0, 0], [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6],
        [1, 0, 0, 5, 0], [1, 1, 0, 4, 0], [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1],
        [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0], [0, 2, 0, 4, 0], [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0], [1, 0, 0, 4, 1],
        [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
    ]  # fmt: skip
    assert agreement.fleiss_kappa(np.array(table)) == pytest.approx(0.430, abs=5e-4)


def test_krippendorff_alpha_of_the_paper() -> None:
    """Krippendorff 2011: four observers, twelve units, some not judged; nominal 0.743."""
    nan = np.nan
    judged = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    counts = np.stack([(judged == value).sum(axis=0) for value in range(1, 6)], axis=1)
    assert agreement.krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_kappa_at_chance_is_zero_and_undefined_without_variation() -> None:
    random = np.random.default_rng(0)
    yes = random.binomial(8, 0.3, 200_000)
    counts = np.stack([8 - yes, yes], axis=1)
    assert agreement.fleiss_kappa(counts) == pytest.approx(0, abs=5e-3)
    assert agreement.krippendorff_alpha(counts) == pytest.approx(0, abs=5e-3)
    assert np.isnan(agreement.fleiss_kappa(np.array([[3, 0], [3, 0]])))
    assert np.isnan(agreement.krippendorff_alpha(np.array([[3, 0], [3, 0]])))
    with pytest.raises(ValueError, match="same number of experts"):
        agreement.fleiss_kappa(np.array([[2, 0], [2, 1]]))


def test_two_experts_with_equal_shares_have_cohens_kappa() -> None:
    random = np.random.default_rng(1)
    first = np.r_[np.ones(30, int), np.zeros(70, int)]
    second = random.permutation(first)
    second[:20] = first[:20]
    while second.sum() != first.sum():
        second[random.integers(20, 100)] = int(second.sum() < first.sum())
    yes = first + second
    counts = np.stack([2 - yes, yes], axis=1)
    assert agreement.fleiss_kappa(counts) == pytest.approx(cohen_kappa_score(first, second))


def test_agreement_equals_scikit_learn() -> None:
    random = np.random.default_rng(2)
    drawn = random.random((5, 12, 13)) < 0.4
    pair = agreement.pairwise(drawn)
    for i in range(5):
        others = np.delete(drawn, i, axis=0).sum(axis=0) > 2  # of four, a tie is no slump
        alone = agreement.leave_one_out(drawn)
        assert alone["f1"][i] == pytest.approx(f1_score(others.ravel(), drawn[i].ravel()))
        for j in range(5):
            a, b = drawn[i].ravel(), drawn[j].ravel()
            assert pair["f1"][i, j] == pytest.approx(f1_score(a, b))
            assert pair["iou"][i, j] == pytest.approx(jaccard_score(a, b))
    np.testing.assert_allclose(agreement.shares(drawn), drawn.mean(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match="1 expert"):
        agreement.leave_one_out(drawn[:1])


def logits_and_labels(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 1, 6, 7, generator=generator)
    labels = torch.randint(0, 2, (2, 6, 7), generator=generator).to(torch.uint8)
    labels[torch.rand(2, 6, 7, generator=generator) < 0.2] = 255
    labels[0, 0, 0] = 1
    return logits, labels


@given(st.integers(0, 2**31), st.sampled_from(SOFT_LOSSES))
@settings(max_examples=30, deadline=None)
def test_shares_of_zero_and_one_are_hard_labels(seed: int, name: str) -> None:
    """Value and gradient are those of the library's loss on the same labels as integers."""
    logits, labels = logits_and_labels(seed)
    values, gradients = [], []
    for given_labels in (labels, labels.float()):
        x = logits.clone().requires_grad_()
        value = loss_function(name)(x, given_labels)
        value.backward()
        values.append(value.detach())
        gradients.append(x.grad)
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_the_share_itself_is_the_best_answer(name: str) -> None:
    """Also against 0 and 1, which the product forms of Dice and Jaccard would prefer."""
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(1, 8, 8, generator=generator) * 0.8 + 0.1
    loss = loss_function(name)
    at_share = loss(torch.logit(share)[:, None], share).item()
    for other in (
        torch.where(share > 0.5, 0.999, 0.001),
        (share + 0.05).clamp(max=0.99),
        (share - 0.05).clamp(min=0.01),
        torch.full_like(share, 0.5),
    ):
        assert loss(torch.logit(other)[:, None], share).item() > at_share + 1e-4
    if name == "bce":
        entropy = functional.binary_cross_entropy(share, share).item()
        assert at_share == pytest.approx(entropy, rel=1e-5)
    else:
        assert at_share == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_soft_losses_are_blind_to_ignored_pixels(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 1, 6, 6, generator=generator).requires_grad_()
    share = torch.rand(1, 6, 6, generator=generator)
    share[:, 3:] = 255.0
    loss = loss_function(name)(logits, share)
    part = loss_function(name)(logits[:, :, :3], share[:, :3])
    assert loss.item() == pytest.approx(part.item(), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 3:] == 0).all() and (logits.grad[:, :, :3] != 0).any()
    assert loss_function(name)(logits, torch.full((1, 6, 6), 255.0)).item() == 0


@pytest.mark.parametrize("name", sorted(set(LOSSES) - set(SOFT_LOSSES)))
def test_losses_without_a_meaning_for_shares_say_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"The loss {name} .* cannot learn soft labels") as error:
        loss_function(name)(torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), 0.5))
    assert "bce, dice, jaccard" in (error.value.hint or "")


def test_crops_carry_shares() -> None:
    labels = np.zeros((8, 8), "uint8")
    labels[2:4, 2:4] = 1
    labels[:, 7] = 255
    soft = np.full((8, 8), np.float32(0.25))
    soft[0, 0] = np.nan
    tile = Tile("a", np.ones((1, 8, 8), "float32"), labels, soft=soft)
    plain = Tile("b", tile.array, labels)
    scaling = Scaling(("x",), (0.0,), (1.0,))
    chips = Chips([tile], scaling, 12)
    images, marks = chips.draw(torch.Generator().manual_seed(0), 4)
    assert marks.dtype == torch.float32 and images.shape == (4, 1, 12, 12)
    for each in marks:
        assert (each == 0.25).sum() == 55 and (each == 255).sum() == 144 - 55
    with pytest.raises(DataError, match="b has no soft labels, other training sites have"):
        Chips([tile, plain], scaling, 8)


@pytest.fixture()
def drawn_by_two(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    grid = GeoBox((6, 8), Affine(10, 0, 500000, 0, -10, 7500060), "EPSG:32608")
    values = np.arange(1, 1 + 3 * 48, dtype="uint16").reshape(3, 6, 8)
    values[:, 0, 0] = 0
    image = tmp_path / "image.tif"
    with rasterio.open(
        image, "w", driver="GTiff", width=8, height=6, count=3, dtype="uint16", nodata=0,
        crs="EPSG:32608", transform=grid.transform,
    ) as out:  # fmt: skip
        out.write(values)
    square = box(500000, 7500020, 500040, 7500060)
    line = LineString([(500050, 7500010), (500075, 7500010)])
    shapes = {
        "a": [square, Polygon([(500060, 7500010)] * 4), line],
        "b": [box(500020, 7500020, 500060, 7500060), square.buffer(-10)],
    }
    files = {}
    for name, outlines in shapes.items():
        files[name] = tmp_path / f"{name}.gpkg"
        frame = geopandas.GeoDataFrame(geometry=outlines, crs="EPSG:32608")
        frame.to_crs("EPSG:4326").to_file(files[name])
    return image, files


def test_experts_become_shares(drawn_by_two: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """Another CRS, an outline without area, a line, outlines that overlap, a pixel of nodata."""
    image, files = drawn_by_two
    site = read_experts(image, files, ["red", "nir"], name="made up")
    assert site.array.shape == (2, 6, 8) and site.experts == ("a", "b")
    expected = np.zeros((6, 8))
    expected[:4, :4] += 0.5
    expected[:4, 2:6] += 0.5
    expected[1:3, 1:3] = [[0.5 + 0.5, 1.0], [1.0, 1.0]]
    assert np.isnan(site.soft[0, 0]) and site.labels[0, 0] == 255
    np.testing.assert_array_equal(site.soft.ravel()[1:], expected.ravel()[1:].astype("float32"))
    np.testing.assert_array_equal(site.labels.ravel()[1:], (expected > 0.5).ravel()[1:])
    path = tmp_path / "labels_soft.tif"
    write_soft(path, site.soft, site.grid)
    np.testing.assert_array_equal(read_float(path).array[0], site.soft)
    with pytest.raises(DataError, match=r"between 0 and 1; labels_soft\.tif would hold 0 to 2"):
        write_soft(path, 2 * site.soft, site.grid)
    with pytest.raises(DataError, match="has 3 bands without names; 4 were asked for"):
        read_experts(image, files, list("abcd"), name="x")
    with pytest.raises(DataError, match="1 expert drew this site"):
        read_experts(image, {"a": files["a"]}, ["x"], name="x")


@pytest.fixture(scope="module")
def benchmark() -> Any:
    path = ROOT / "benchmarks" / "real_slumps.py"
    spec = importlib.util.spec_from_file_location("real_slumps", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_slumps"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["real_slumps"]


@pytest.fixture(scope="module")
def real(benchmark: Any, data_dir: Path) -> Any:
    folder = data_dir / "rts_expert_labels"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return {name: benchmark.read_site(folder, name) for name in benchmark.SITES}


def test_real_outlines_lie_where_their_files_say(real: Any, data_dir: Path) -> None:
    assert {name: len(site.experts) for name, site in real.items()} == {"bykovsky": 10, "peel": 12}
    for name, site in real.items():
        assert site.array.shape == (7, 251, 251)
        for expert, drawn in zip(site.experts, site.drawn, strict=True):
            folder = data_dir / "rts_expert_labels" / "02_UserResults" / f"#{expert}"
            frame = geopandas.read_file(folder / f"{name.capitalize()}_digitized.shp")
            area = frame.geometry.make_valid().union_all().area
            assert abs(100 * drawn.sum() - area) < 0.06 * area
            assert drawn.any() and not drawn.all()


def test_experts_of_bykovsky_do_not_mean_the_same(real: Any, benchmark: Any) -> None:
    """Three drew elsewhere than all others: no map can agree with each of them."""
    far, near = (benchmark.experts_record(real[name]) for name in ("bykovsky", "peel"))
    assert far["pixels_all"] == 0 < near["pixels_all"]
    assert far["pairwise_f1"]["value"] < 0.3 < 0.7 < near["pairwise_f1"]["value"]
    assert far["fleiss_kappa"] < 0.4 < 0.6 < near["fleiss_kappa"]
    assert near["slumps_of_the_majority"] < 12


def test_real_parts_lie_apart_and_hold_slumps(real: Any, benchmark: Any) -> None:
    for place, parts in benchmark.cases(real).values():
        judged = sum(case.judged.astype(int) for case in parts)
        np.testing.assert_array_equal(judged, 1)
        for case in parts:
            assert (case.train.labels == 1).any() and (case.validation.labels == 1).any()
            assert case.test.array.shape[1:] == real[place].array[0][case.where].shape


def test_a_perfect_and_an_empty_map_on_real_ground(real: Any, benchmark: Any) -> None:
    site = real["peel"]
    found = benchmark.judge(
        site, {"perfect": site.labels == 1, "empty": np.zeros(site.labels.shape, bool)}
    )
    perfect, empty = found["perfect"], found["empty"]
    assert perfect["against_majority"]["f1"] == perfect["boundary"]["f1"] == 1
    # The majority agrees with an expert better than another expert does.
    assert perfect["minus_experts_among_each_other"]["low"] > 0
    assert empty["with_each_expert_f1"]["value"] == 0
    assert empty["objects"]["matched"] == 0 < empty["objects"]["slumps"]
