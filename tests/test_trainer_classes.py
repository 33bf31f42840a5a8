"""Bands of classes in the segmentation models: channels, unknown classes, missing values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from safetensors.torch import load_file

from thawslump.bands import BANDS, CHANGE_STACK, SETTINGS, bands_of
from thawslump.errors import DataError
from thawslump.files import sha256
from thawslump.raster import write_cog
from thawslump.workspace import Workspace
from trainer.chips import (
    IGNORE,
    Chips,
    Classes,
    Scaling,
    Tile,
    channels_of,
    expand,
    fit_scaling,
    scale,
    unseen,
)
from trainer.segmentation import cards, ensemble, predict, train
from trainer.segmentation.predict import (
    Member,
    Unseen,
    predict_array,
    predict_strips,
    predict_window,
)
from trainer.steps import TRAINING, plan_ensemble, plan_predict, plan_train

LAND, CLIMATE = "CART_LC_classified", "KG_climate"
BAND_NAMES = ("dVV", "layover", LAND, CLIMATE, "dNDVI")
ENCODER = "tu-mobilenetv3_small_050"

class_numbers = st.lists(st.integers(0, 40), min_size=1, max_size=9, unique=True)


def one_hot(band: np.ndarray, classes: Classes) -> np.ndarray:
    """Channels of one band, pixel by pixel, written without looking anything up."""
    out = np.zeros((len(classes.values), *band.shape), "float32")
    for place in np.ndindex(band.shape):
        if band[place] in classes.values:
            for channel, value in enumerate(classes.values):
                out[channel][place] = float(band[place] == value) - classes.shares[channel]
    return out


@given(class_numbers, st.integers(0, 2**32 - 1), st.floats(0, 0.6))
@settings(max_examples=60, deadline=None)
def test_classes_become_channels_less_their_share(
    numbers: list[int], seed: int, missing: float
) -> None:
    """Training: mean 0 in every channel; other arrays: unknown and missing are 0 everywhere."""
    random = np.random.default_rng(seed)
    band = random.choice(numbers, (1, 6, 7)).astype("float32")
    band[random.random(band.shape) < missing] = np.nan
    band[0, 0, 0] = numbers[0]
    scaling = fit_scaling([band], [LAND])
    (classes,) = scaling.classes
    assert classes is not None
    assert classes.values == tuple(sorted(set(band[np.isfinite(band)].astype(int))))
    assert sum(classes.shares) == pytest.approx(1)
    assert scaling.channels == len(classes.values)

    def through(array: np.ndarray) -> np.ndarray:
        scaled, _ = scale(array, scaling.mean, scaling.std, scaling.classes)
        return expand(torch.from_numpy(scaled), scaling.classes, dim=0).numpy()

    channels = through(band)
    np.testing.assert_allclose(channels, one_hot(band[0], classes), atol=1e-7)
    there = np.isfinite(band[0])
    np.testing.assert_allclose(channels[:, there].mean(axis=1), 0, atol=1e-6)
    other = random.choice([*numbers, 41, 99], band.shape).astype("float32")
    other[random.random(band.shape) < missing] = np.nan
    np.testing.assert_allclose(through(other), one_hot(other[0], classes), atol=1e-7)
    strange = np.isfinite(other[0]) & ~np.isin(other[0], classes.values)
    assert unseen(other, scaling.classes).tolist() == [strange.sum()]
    assert not through(other)[:, strange].any()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_classes_over_tiles_are_those_of_all_pixels(sides: list[int], seed: int) -> None:
    """Tile by tile or all at once: the same classes and shares."""
    random = np.random.default_rng(seed)
    tiles = [random.integers(1, 9, (1, side, 4)).astype("float32") for side in sides]
    together = np.concatenate(tiles, axis=1)
    assert fit_scaling(tiles, [LAND]) == fit_scaling([together], [LAND])


def test_masks_stay_one_channel_and_numbers_are_scaled() -> None:
    """Layover and shadow: less their mean, never divided; a constant band becomes 0."""
    random = np.random.default_rng(0)
    array = np.stack(
        [
            random.normal(-12, 3, (20, 20)),
            (random.random((20, 20)) < 0.01).astype(float),
            random.choice([1, 5, 8], (20, 20)),
            np.full((20, 20), 29.0),
            np.full((20, 20), 0.5),
        ]
    ).astype("float32")
    scaling = fit_scaling([array], BAND_NAMES)
    assert scaling.std[1] == 1 and scaling.mean[1] == pytest.approx(array[1].mean())
    assert [each and each.values for each in scaling.classes] == [
        None,
        None,
        (1, 5, 8),
        (29,),
        None,
    ]
    assert scaling.channels == channels_of(5, scaling.classes) == 7
    scaled, _ = scale(array, scaling.mean, scaling.std, scaling.classes)
    channels = expand(torch.from_numpy(scaled), scaling.classes, dim=0).numpy()
    assert channels.shape == (7, 20, 20) and np.isfinite(channels).all()
    assert channels[0].std() == pytest.approx(1, abs=1e-5)
    assert np.abs(channels[1]).max() <= 1
    assert not channels[5].any(), "one class everywhere says nothing"
    assert not channels[6].any(), "a band without variation says nothing"


def test_class_one_alone_is_a_class_and_no_mask() -> None:
    """What counts is the band, not that the training site happens to hold 1 only."""
    scaling = fit_scaling([np.ones((1, 3, 3), "float32")], [LAND])
    assert scaling.classes == (Classes((1,), (1.0,)),)
    assert fit_scaling([np.ones((1, 3, 3), "float32")], ["shadow"]).classes == ()


def test_what_is_no_class_number_is_refused() -> None:
    with pytest.raises(DataError, match=r"CART_LC_classified holds 2\.5.*whole numbers") as error:
        fit_scaling([np.array([[[2.0, 2.5]]])], [LAND])
    assert "nearest value" in str(error.value.hint)
    with pytest.raises(DataError, match="KG_climate holds more than 64 different values"):
        fit_scaling([np.arange(100.0).reshape(1, 10, 10)], [CLIMATE])


def test_crops_hold_the_channels_of_their_pixels() -> None:
    """What training draws is what prediction makes of the same pixels; jitter spares classes."""
    random = np.random.default_rng(1)
    array = np.stack(
        [
            random.normal(size=(40, 40)),
            (random.random((40, 40)) < 0.3).astype(float),
            random.choice([3, 6], (40, 40)),
            np.where(random.random((40, 40)) < 0.2, np.nan, 29),
            random.normal(size=(40, 40)),
        ]
    ).astype("float32")
    tile = Tile("t", array, np.ones((40, 40), "uint8"))
    scaling = fit_scaling([array], BAND_NAMES)
    chips = Chips([tile], scaling, 64)
    images, labels = chips.draw(torch.Generator().manual_seed(0), 3, jitter=0.0)
    assert images.shape == (3, scaling.channels, 64, 64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    scaled, _ = scale(array, scaling.mean, scaling.std, scaling.classes)
    channels = expand(torch.from_numpy(scaled), scaling.classes, dim=0)
    for image, label in zip(images, labels, strict=True):
        inside = label != IGNORE
        assert not image[:, ~inside].any(), "padding has the training mean in every channel"
        mine = image[:, inside].T.numpy()
        theirs = channels.reshape(len(channels), -1).T.numpy()
        np.testing.assert_array_equal(np.unique(mine, axis=0), np.unique(theirs, axis=0))
    plain, _ = chips.draw(torch.Generator().manual_seed(4), 6, jitter=0.0)
    noisy, _ = chips.draw(torch.Generator().manual_seed(4), 6, jitter=0.3)
    changed = (plain != noisy).flatten(2).any(dim=2).all(dim=0).tolist()
    assert changed == [True, False, False, False, False, True]


@given(
    st.integers(1, 90), st.integers(1, 90), st.sampled_from([(32, 0), (64, 32), (512, 64)]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_windows_do_not_change_what_a_class_means(
    rows: int, columns: int, size: tuple[int, int], seed: int
) -> None:
    """A model of single pixels gives each class its own value, whatever the windows."""
    random = np.random.default_rng(seed)
    classes = Classes((2, 7), (0.25, 0.75))
    band = random.choice([2, 7, 8, np.nan], (1, rows, columns), p=[0.3, 0.4, 0.2, 0.1])
    weights = torch.tensor([2.0, -1.0])[None, :, None, None]
    member = Member(
        "pixel", lambda x: (x * weights).sum(1, keepdim=True), (0,), (0.0,), (1.0,), (classes,)
    )
    array = band.astype("float32")
    found = predict_array([member], array, window=size[0], overlap=size[1])
    logit = np.select(
        [array[0] == 2, array[0] == 7, array[0] == 8],
        [2 * 0.75 + 0.75, -2 * 0.25 - 0.25, 0.0],
        np.nan,
    )
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-logit)), rtol=1e-6)


def test_members_with_other_classes_of_a_band_see_their_own() -> None:
    array = np.full((1, 32, 32), 5.0, "float32")
    first = Member("a", lambda x: x[:, :1], (0,), (0.0,), (1.0,), (Classes((5,), (0.0,)),))
    second = Member("b", lambda x: x[:, :1], (0,), (0.0,), (1.0,), (Classes((6,), (0.0,)),))
    mean, deviation, _ = predict_window([first, second], array)
    one = 1 / (1 + np.exp(-1.0))
    assert mean[0, 0] == pytest.approx((one + 0.5) / 2)
    assert deviation[0, 0] == pytest.approx((one - 0.5) / 2)


def test_unknown_classes_are_counted_once_over_overlapping_windows() -> None:
    classes = (None, Classes((1, 2), (0.5, 0.5)))
    member = Member("m", lambda x: x[:, :1], (0, 1), (0.0, 0.0), (1.0, 1.0), classes)
    array = np.stack([np.zeros((90, 10)), np.full((90, 10), 2.0)]).astype("float32")
    array[1, 20:50] = 3
    array[1, 60] = np.nan
    counter = Unseen(("dVV", LAND), [member])
    strips = predict_strips(
        [member],
        lambda top, bottom, left, right: array[:, top:bottom, left:right],
        array.shape[1:],
        window=64,
        overlap=32,
        look=counter.look,
    )
    assert sum(len(strip.probability) for strip in strips) == 90
    assert counter.shares == {LAND: pytest.approx(300 / 900, abs=1e-6)}


# The steps, on files -----------------------------------------------------------------------------


def made_up(seed: int, climates: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Bands in which slumps lie on land cover 7, and the labels."""
    random = np.random.default_rng(seed)
    labels = np.zeros((64, 64), dtype="uint8")
    for row, column in random.integers(4, 52, (5, 2)):
        labels[row : row + 8, column : column + 8] = 1
    array = np.stack(
        [
            random.normal(size=(64, 64)),
            (random.random((64, 64)) < 0.02).astype(float),
            np.where(labels == 1, 7, random.choice([2, 3, 4], (64, 64))),
            np.repeat(random.choice(climates, (64, 1)), 64, axis=1),
            random.normal(size=(64, 64)) - labels,
        ]
    ).astype("float32")
    array[2, 40:44] = np.nan
    return array, labels


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A made-up workspace; climate 27 occurs on the test site only."""
    root = tmp_path / "work"
    (root / "sites").mkdir(parents=True)
    (root / "thawslump.yaml").write_text(
        "segmentation:\n"
        "  runs:\n"
        f"  - {{architecture: fpn, encoder: {ENCODER}, loss: dice, learning_rate: 0.003}}\n"
        f"  - {{architecture: linknet, encoder: {ENCODER}, loss: bce, bands: S2, seed: 1}}\n"
        "  crop: 32\n  batch: 2\n  iterations: 4\n  epochs: 2\n  window: 128\n  overlap: 32\n"
    )
    place = Workspace(root)
    for number, (role, climates) in enumerate(
        (("train", (29,)), ("validation", (29,)), ("test", (29, 27)))
    ):
        west = 129 + number * 0.1
        (root / "sites" / f"{role}.yaml").write_text(
            f"name: {role}\nrole: {role}\nbounds: [{west}, 71.8, {west + 0.02}, 71.81]\n"
            "pre: {start: 2019-06-15, end: 2019-09-01}\n"
            "post: {start: 2023-06-15, end: 2023-09-01}\n"
            "outlines: known.gpkg\nmade_up: true\n"
        )
        grid = GeoBox((64, 64), Affine(10, 0, 5e5 + 1e4 * number, 0, -10, 7.9e6), "EPSG:32652")
        array, labels = made_up(number, climates)
        write_cog(place.stack(role), array, grid, BAND_NAMES, nodata=float("nan"))
        write_cog(
            place.labels(1, role), labels[None], grid, ["label"], nodata=255, categorical=True
        )
    return Workspace(root)


def quiet(fraction: float, words: str = "") -> None:
    assert 0 <= fraction <= 1


def test_classes_travel_from_training_to_the_map(workspace: Workspace) -> None:
    """Item, weights, reloaded models, map and its tag agree; what is unknown is counted."""
    items = plan_train(workspace, 1)
    assert {item.version for item in items} == {TRAINING} == {train.VERSION}
    for item in items:
        train.run(item, workspace, quiet)
    folder = items[0].outputs[0].parent
    item = json.loads((folder / "item.json").read_text())
    (entry,) = item["properties"]["mlm:input"]
    assert entry["bands"] == list(bands_of("all", BAND_NAMES))
    given = entry["thawslump:classes"]
    assert set(given) == {LAND, CLIMATE}
    assert given[LAND]["values"] == [2, 3, 4, 7] and given[CLIMATE]["values"] == [29]
    assert entry["input"]["shape"][1] == 3 + 4 + 1
    first = next(t for t in load_file(folder / "model.safetensors").values() if t.ndim == 4)
    assert first.shape[1] == 8
    record = json.loads((folder / "metrics.json").read_text())
    assert record["unseen_classes"] == {}
    assert 0 < record["filled"]["train"] < 0.05

    (one,) = plan_ensemble(workspace, 1)
    ensemble.run(one, workspace, quiet)
    _, members = ensemble.load_members(one.outputs[0], [item.name for item in items])
    assert members[0].classes == cards.classes_of(entry)
    maps = {item.name: item for item in plan_predict(workspace, 1)}
    facts = {name: predict.run(item, workspace, quiet) for name, item in maps.items()}
    with rasterio.open(workspace.stack("test")) as source:
        share = float((source.read(4) == 27).mean())
    assert 0 < share < 1
    assert facts["test"][f"unseen_{CLIMATE}"] == pytest.approx(share, abs=1e-6)
    assert not any(name.startswith("unseen") for name in facts["validation"])
    with rasterio.open(maps["test"].outputs[0]) as source:
        assert json.loads(source.tags()["unseen_classes"]) == {
            CLIMATE: pytest.approx(share, abs=1e-6)
        }


def test_a_model_of_before_reads_class_numbers_as_numbers(workspace: Workspace) -> None:
    """An item without the field loads, with as many channels as bands."""
    from safetensors.torch import save_file

    from trainer.segmentation.models import build

    (_, item) = plan_train(workspace, 1)
    train.run(item, workspace, quiet)
    folder = item.outputs[0].parent
    content = json.loads((folder / "item.json").read_text())
    entry = content["properties"]["mlm:input"][0]
    del entry["thawslump:classes"]
    entry["value_scaling"][0] = {"type": "z-score", "mean": 4.0, "stddev": 2.0}
    weights = build("linknet", ENCODER, 2).state_dict()
    path = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    content["assets"]["model"]["file:checksum"] = f"1220{sha256(path)}"
    (folder / "item.json").write_text(json.dumps(content))
    bands, (member,) = ensemble.load_members(folder.parent / "ensemble/item.json", [item.name])
    assert bands == (LAND, "dNDVI") and member.classes == ()
    found = predict_array([member], np.ones((2, 64, 64), "float32"))
    assert np.isfinite(found.probability).all()


def test_what_a_run_says_of_an_area_is_over_all_its_pieces() -> None:
    """Pieces of one area share a name; their pixels count together."""
    classes = (Classes((1,), (1.0,)),)
    scaling = Scaling((LAND,), (0.0,), (1.0,), classes)
    small = Tile("a", np.full((1, 2, 5), 7, "float32"), np.ones((2, 5), "uint8"), True)
    large = Tile("a", np.full((1, 6, 5), 1, "float32"), np.zeros((6, 5), "uint8"), True)
    large.array[0, :3] = np.nan
    other = Tile("b", np.full((1, 2, 2), 1, "float32"), np.ones((2, 2), "uint8"))
    found = train._counted([small, other, large], scaling)
    assert found["unseen_classes"] == {"a": {LAND: 0.25}}
    assert found["slump_pixels"] == {"a": 10, "b": 4}
    assert found["filled"]["b"] == 0


class Stop(Exception):
    """Stands for a process that was killed."""


def test_a_stopped_run_with_classes_ends_with_the_same_bytes(workspace: Workspace) -> None:
    item = plan_train(workspace, 1)[0]

    def stop(fraction: float, words: str = "") -> None:
        if words.startswith("epoch 2 of"):
            raise Stop

    with pytest.raises(Stop):
        train.run(item, workspace, stop)
    assert (item.outputs[0].parent / "checkpoint").exists()
    train.run(item, workspace, quiet)
    continued = {path.name: path.read_bytes() for path in item.outputs}
    train.run(item, workspace, quiet)
    assert {path.name: path.read_bytes() for path in item.outputs} == continued


def test_settings_are_those_of_the_paper_on_the_whole_stack() -> None:
    """Ganerod et al. (2024), Table 3, by the numbers of the bands in their Table 2."""
    numbers = {"S1": range(9), "S2": (13, 14), "S1+S2": (*range(9), 13, 14), "all": range(15)}
    assert set(SETTINGS) == set(numbers)
    for setting, places in numbers.items():
        assert bands_of(setting, CHANGE_STACK) == tuple(CHANGE_STACK[i] for i in places)
    kinds = {name for name in CHANGE_STACK if BANDS[name].categorical}
    assert kinds == {"layover", "shadow", CLIMATE, LAND}
    assert {name for name in CHANGE_STACK if BANDS[name].mask} == {"layover", "shadow"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_of_the_whole_stack_is_scaled(setting: str) -> None:
    """A pixel is nodata only where all of the setting's bands are missing."""
    random = np.random.default_rng(3)
    bands = bands_of(setting, CHANGE_STACK)
    array = np.stack(
        [
            random.integers(0, 2, (9, 9)) if BANDS[name].mask
            else random.integers(1, 9, (9, 9)) if BANDS[name].categorical
            else random.normal(size=(9, 9))
            for name in bands
        ]
    ).astype("float32")  # fmt: skip
    array[:-1, 0, 0] = np.nan
    array[:, 1, 1] = np.nan
    scaling: Scaling = fit_scaling([array], bands)
    scaled, filled = scale(array, scaling.mean, scaling.std, scaling.classes)
    assert np.isfinite(scaled).all()
    assert filled[0, 0] == pytest.approx(1 - 1 / len(bands), abs=1e-6)
    assert np.argwhere(filled == 1).tolist() == [[1, 1]]
    channels = expand(torch.from_numpy(scaled), scaling.classes, dim=0)
    assert len(channels) == scaling.channels and not channels[:, 1, 1].any()
