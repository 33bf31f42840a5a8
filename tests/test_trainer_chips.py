"""Crops, scaling and losses of the trainer, against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thawslump.errors import DataError
from trainer.chips import IGNORE, Chips, Scaling, Tile, fit_scaling, scale
from trainer.segmentation.losses import LOSSES, loss_function


def tile_of(
    shape: tuple[int, int], seed: int = 0, *, reviewed: bool = False, bands: int = 2
) -> Tile:
    """A made-up tile whose pixels tell where they are: band 0 row, band 1 column."""
    rows, columns = np.indices(shape)
    labels = (np.random.default_rng(seed).random(shape) < 0.01).astype("uint8")
    array = np.stack([rows, columns, *[rows * 0] * (bands - 2)]).astype("float32")
    return Tile(f"tile{seed}", array, labels, reviewed)


PLAIN = Scaling(("row", "column"), (0.0, 0.0), (1.0, 1.0))


def test_crops_are_cut_from_the_tile_and_hold_a_slump_pixel() -> None:
    """Every crop is one of the 8 symmetries of a window of a tile, labels along with it."""
    tiles = [tile_of((70, 90), 1), tile_of((64, 200), 2)]
    chips = Chips(tiles, PLAIN, 32)
    images, labels = chips.draw(torch.Generator().manual_seed(0), 64)
    seen = set()
    for image, label in zip(images.numpy(), labels.numpy(), strict=True):
        rows, columns = image.astype(int)
        top, left = rows.min(), columns.min()
        window = np.indices((32, 32)) + np.array([top, left])[:, None, None]
        found = None
        for k in range(4):
            for mirror in (1, -1):
                turned = np.rot90(window, k, axes=(1, 2))[:, :, ::mirror]
                if (turned == image).all():
                    found = (k, mirror)
        assert found is not None
        seen.add(found)
        assert (label == 1).any()
        assert any(
            (np.array(tile.labels.shape) > (rows.max(), columns.max())).all()
            and (tile.labels[rows, columns] == label).all()
            for tile in tiles
        )
    assert len(seen) == 8


def test_crops_without_flips_are_turned_only() -> None:
    chips = Chips([tile_of((40, 40))], PLAIN, 32)
    images, _ = chips.draw(torch.Generator().manual_seed(1), 64, flips=False)
    for image in images.numpy():
        # A turn keeps the orientation of the two axes: the cross product of their gradients.
        down = np.array([image[0, 1, 0] - image[0, 0, 0], image[1, 1, 0] - image[1, 0, 0]])
        right = np.array([image[0, 0, 1] - image[0, 0, 0], image[1, 0, 1] - image[1, 0, 0]])
        assert down[0] * right[1] - down[1] * right[0] == 1


def test_equal_seeds_draw_equal_crops() -> None:
    chips = Chips([tile_of((99, 77))], PLAIN, 32)
    first = chips.draw(torch.Generator().manual_seed(5), 8, background=0.5)
    second = chips.draw(torch.Generator().manual_seed(5), 8, background=0.5)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_jitter_changes_gain_and_offset_of_whole_bands() -> None:
    """Each band of each crop is a straight line of what it was; labels stay."""
    chips = Chips([tile_of((64, 64))], PLAIN, 32)
    plain, labels = chips.draw(torch.Generator().manual_seed(3), 200)
    jittered, same = chips.draw(torch.Generator().manual_seed(3), 200, jitter=0.1)
    assert torch.equal(labels, same)
    gains, offsets = [], []
    for before, after in zip(plain.flatten(0, 1), jittered.flatten(0, 1), strict=True):
        gain, offset = np.polyfit(before.flatten().numpy(), after.flatten().numpy(), 1)
        np.testing.assert_allclose(gain * before + offset, after, atol=1e-3)
        gains.append(gain)
        offsets.append(offset)
    assert np.mean(gains) == pytest.approx(1, abs=0.02)
    assert np.std(gains) == pytest.approx(0.1, rel=0.15)
    assert np.std(offsets) == pytest.approx(0.1, rel=0.15)


def test_a_share_of_crops_lies_around_rejected_places() -> None:
    """Rejected candidates are all that an area teaches besides its accepted ones."""
    labels = np.full((64, 64), IGNORE, dtype="uint8")
    labels[50, 50] = 0
    area = Tile("area", np.full((2, 64, 64), 7, dtype="float32"), labels, reviewed=True)
    site = tile_of((64, 64))
    chips = Chips([site, area], PLAIN, 32)
    _, marks = chips.draw(torch.Generator().manual_seed(2), 400, rejected=0.25)
    around = [(m == IGNORE).sum() == 32 * 32 - 1 and (m == 0).any() for m in marks]
    assert 0.15 < np.mean(around) < 0.35
    _, none = chips.draw(torch.Generator().manual_seed(2), 100, rejected=0.0)
    assert all((m == 1).any() for m in none)


def test_small_tiles_are_padded_with_the_mean_and_ignored() -> None:
    site = Tile("small", np.full((1, 20, 50), 5.0, dtype="float32"), np.ones((20, 50), "uint8"))
    chips = Chips([site], Scaling(("b",), (4.0,), (2.0,)), 32)
    image, label = chips.draw(torch.Generator().manual_seed(0), 1)
    assert (label == 1).sum() == 20 * 32
    assert torch.equal(image[0, 0] == 0.5, label[0] == 1)
    assert torch.equal(image[0, 0] == 0.0, label[0] == IGNORE)


def test_pixels_without_any_band_are_not_learned_from() -> None:
    array = np.zeros((2, 32, 32), dtype="float32")
    array[:, 3, 4] = np.nan
    array[0, 5, 6] = np.nan
    chips = Chips([Tile("a", array, np.ones((32, 32), "uint8"))], PLAIN, 32)
    ignored = (chips.labels.reshape(32, 32) == IGNORE).nonzero().tolist()
    assert ignored == [[3, 4]]


def test_no_slump_pixel_is_said_plainly() -> None:
    empty = Tile("bare", np.zeros((2, 32, 32), "float32"), np.zeros((32, 32), "uint8"))
    with pytest.raises(DataError, match="No slump pixel in the 1 training sites \\(bare\\)"):
        Chips([empty], PLAIN, 32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_scaling_over_tiles_equals_scaling_over_all_pixels(seed: int, count: int) -> None:
    """Combining tiles gives the mean and deviation of all finite pixels together."""
    random = np.random.default_rng(seed)
    arrays = [random.normal(-12, 3, (2, 5, 1 + i)) for i in range(count)]
    for array in arrays:
        array[random.random(array.shape) < 0.2] = np.nan
        array[:, 0, 0] = random.normal(-12, 3, 2)
    found = fit_scaling(arrays, ("a", "b"))
    together = np.concatenate([a.reshape(2, -1) for a in arrays], axis=1)
    np.testing.assert_allclose(found.mean, np.nanmean(together, axis=1), rtol=1e-12)
    spread = np.nanstd(together, axis=1)
    spread[np.isfinite(together).sum(axis=1) == 1] = 1.0  # one value alone does not vary
    np.testing.assert_allclose(found.std, spread, rtol=1e-9)


def test_missing_band_is_named() -> None:
    with pytest.raises(DataError, match="Band dVH has no valid pixel"):
        fit_scaling([np.stack([np.ones((2, 2)), np.full((2, 2), np.nan)])], ("dVV", "dVH"))


def test_scaled_values_are_finite_and_missing_ones_are_the_mean() -> None:
    array = np.array([[[1.0, np.nan, np.inf]], [[4.0, 5.0, np.nan]]])
    scaled, filled = scale(array, (1.0, 2.0), (2.0, 1.0))
    assert scaled.tolist() == [[[0.0, 0.0, 0.0]], [[2.0, 3.0, 0.0]]]
    assert filled.tolist() == [[0.0, 0.5, 1.0]]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_blind_to_ignored_pixels(name: str) -> None:
    """The loss and its gradient equal those on an image without the ignored pixels."""
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 4, 6)
    labels = (torch.rand(1, 4, 6) > 0.6).to(torch.uint8)
    whole = torch.cat([logits, 3 * torch.randn(1, 1, 3, 6)], dim=2).requires_grad_()
    marks = torch.cat([labels, torch.full((1, 3, 6), IGNORE, dtype=torch.uint8)], dim=1)
    part = logits.clone().requires_grad_()
    loss = loss_function(name)
    a, b = loss(whole, marks), loss(part, labels)
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    a.backward()
    b.backward()
    assert whole.grad is not None
    assert part.grad is not None
    torch.testing.assert_close(whole.grad[:, :, :4], part.grad, rtol=1e-4, atol=1e-7)
    assert not whole.grad[:, :, 4:].any()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_reward_the_truth_and_stand_a_batch_without_labels(name: str) -> None:
    labels = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.7).to(torch.uint8)
    right = (labels[:, None].float() * 2 - 1) * 8
    loss = loss_function(name)
    assert loss(right, labels).item() < 0.01 < loss(-right, labels).item()
    nothing = torch.full_like(labels, IGNORE)
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    value = loss(logits, nothing)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert not logits.grad.any()
