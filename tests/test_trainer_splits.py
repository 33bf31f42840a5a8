"""What is learned lies away from what is judged: for every raster, crop, block and buffer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from thawslump.errors import DataError
from trainer import splits
from trainer.chips import Chips, Scaling, Tile
from trainer.splits import BUFFER, TEST, TRAIN, VALIDATION
from trainer.susceptibility.validation import spatial_folds

shapes = st.tuples(st.integers(1, 70), st.integers(1, 70))
sides = st.one_of(st.integers(1, 40), st.tuples(st.integers(1, 40), st.integers(1, 40)))


def made_up(seed: int, shape: tuple[int, int], share: float = 0.02) -> np.ndarray:
    """Scattered slumps of a few pixels, some ground not looked at."""
    random = np.random.default_rng(seed)
    labels = ndimage.binary_dilation(random.random(shape) < share, iterations=2).astype("uint8")
    labels[random.random(shape) < 0.02] = 255
    return labels


def split_of(labels: np.ndarray, block: object, buffer: int, seed: int, **how: bool) -> np.ndarray:
    """Return a split by blocks; where it is refused, the same blocks dealt by chance."""
    try:
        return splits.block_split(labels, block, buffer=buffer, seed=seed, **how)  # type: ignore
    except DataError:
        ids = splits.blocks_of(labels, block, **how)  # type: ignore
        part_of = np.random.default_rng(seed).integers(0, 3, ids.max() + 1).astype("uint8")
        return splits.separate(part_of[ids], buffer)


def apart(codes: np.ndarray, first: int, second: int) -> float:
    """Return the least distance of two parts, by the larger of rows and columns."""
    a, b = np.argwhere(codes == first), np.argwhere(codes == second)
    if not len(a) or not len(b):
        return np.inf
    distance, _ = cKDTree(a).query(b, p=np.inf)
    return float(distance.min())


def assert_apart(codes: np.ndarray, buffer: int) -> None:
    for first, second in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
        assert apart(codes, first, second) > buffer


@given(shapes, st.integers(0, 2**32 - 1), st.integers(0, 80))
@settings(max_examples=60, deadline=None)
def test_the_buffer_parts_any_two_parts(shape: tuple[int, int], seed: int, buffer: int) -> None:
    """Whatever the parts look like; the test part loses nothing, and no more is lost than must."""
    random = np.random.default_rng(seed)
    parts = random.choice([0, 0, 1, 2, 255], size=shape).astype("uint8")
    codes = splits.separate(parts, buffer)
    assert_apart(codes, buffer)
    np.testing.assert_array_equal(codes == TEST, parts == TEST)
    lost = np.argwhere((codes == BUFFER) & (parts == TRAIN))
    held = np.argwhere((codes == VALIDATION) | (codes == TEST))
    if len(lost):
        distance, _ = cKDTree(held).query(lost, p=np.inf)
        assert distance.max() <= buffer


@given(
    shapes, st.integers(1, 24), sides, st.integers(0, 20), st.integers(0, 2**32 - 1), st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_no_training_crop_meets_a_held_out_one(
    shape: tuple[int, int],
    crop: int,
    block: int | tuple[int, int],
    buffer: int,
    seed: int,
    whole: bool,
) -> None:
    """Crops cut inside the parts: between two of different parts lies the buffer at least."""
    labels = made_up(seed, shape)
    codes = split_of(labels, block, buffer, seed, whole=whole)
    assert_apart(codes, buffer)
    corners = {part: np.argwhere(splits.windows(codes, part, crop)) for part in (0, 1, 2)}
    for first, second in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
        if len(corners[first]) and len(corners[second]):
            distance, _ = cKDTree(corners[first]).query(corners[second], p=np.inf)
            # Squares of one side are apart by the distance of their corners less that side.
            assert distance.min() >= crop + buffer


@given(
    st.tuples(st.integers(12, 60), st.integers(12, 60)),
    st.integers(4, 24),
    st.integers(4, 30),
    st.integers(0, 12),
    st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_what_training_draws_was_never_held_out(
    shape: tuple[int, int], crop: int, block: int, buffer: int, seed: int
) -> None:
    """Crops as the trainer draws them, turned and mirrored: every value says where it is from."""
    labels = made_up(seed, shape)
    codes = split_of(labels, block, buffer, seed)
    assume(((codes == TRAIN) & (labels == 1)).any())
    number = 1 + np.arange(labels.size, dtype="float32").reshape(1, *shape)
    tile = Tile("a", number, labels)
    chips = Chips(
        [splits.view(tile, codes, TRAIN, buffer)], Scaling(("where",), (0.0,), (1.0,)), crop
    )
    images, marks = chips.draw(torch.Generator().manual_seed(seed), 16, background=0.5)
    drawn = np.unique(images.numpy()).astype(int)
    drawn = drawn[drawn > 0] - 1
    assert drawn.size and (codes.ravel()[drawn] == TRAIN).all()
    assert set(np.unique(marks.numpy()[images.numpy()[:, 0] == 0])) <= {255}
    for part in (VALIDATION, TEST):
        if not (codes == part).any():
            continue
        held = splits.view(tile, codes, part, buffer)
        seen = held.array[np.isfinite(held.array)].astype(int) - 1
        assert not np.intersect1d(seen, drawn).size
        np.testing.assert_array_equal(
            np.sort(held.array[0][held.labels != 255]),
            np.sort(number[0][(codes == part) & (labels != 255)]),
        )


@given(shapes, sides, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_slumps_are_not_cut(
    shape: tuple[int, int], block: int | tuple[int, int], seed: int
) -> None:
    labels = made_up(seed, shape)
    ids = splits.blocks_of(labels, block)
    slumps, count = ndimage.label(labels == 1, structure=np.ones((3, 3)))
    for slump in range(1, count + 1):
        own = np.unique(ids[slumps == slump])
        assert own.size == 1
        plain = splits.blocks_of(labels, block, whole=False)[slumps == slump]
        assert (plain == own[0]).sum() == np.unique(plain, return_counts=True)[1].max()


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_equal_shares_are_dealt_as_the_folds_of_susceptibility(seed: int, folds: int) -> None:
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 30, 400)
    labels = ((random.random(400) < 0.1) & (blocks % 3 == 0)).astype("uint8")
    assume(np.unique(blocks[labels == 1]).size >= folds)
    names, inverse = np.unique(blocks, return_inverse=True)
    positives = np.bincount(inverse, weights=labels).astype(int)
    dealt = splits.deal(positives, np.bincount(inverse), [1.0] * folds)
    for fold, (_, test) in enumerate(spatial_folds(blocks, labels, folds)):
        np.testing.assert_array_equal(np.flatnonzero(dealt[inverse] == fold), test)
    assert len(names) == len(dealt)


@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
@settings(max_examples=40, deadline=None)
def test_every_part_gets_slumps_where_there_are_enough(seed: int, holding: int) -> None:
    random = np.random.default_rng(seed)
    positives = np.r_[random.integers(1, 500, holding), np.zeros(random.integers(0, 20), int)]
    order = random.permutation(len(positives))
    dealt = splits.deal(positives, np.full(len(positives), 100), (0.6, 0.2, 0.2), order)
    assert set(dealt[positives > 0]) == {0, 1, 2}


def test_a_split_keeps_slumps_in_every_part_and_follows_its_seed() -> None:
    labels = made_up(4, (300, 400), share=0.0015)
    seen = set()
    for seed in range(5):
        codes = splits.block_split(labels, 100, buffer=16, seed=seed)
        again = splits.block_split(labels, 100, buffer=16, seed=seed)
        assert codes.dtype == np.uint8 and codes.tobytes() == again.tobytes()
        kept = [((codes == part) & (labels == 1)).sum() for part in (TRAIN, VALIDATION, TEST)]
        assert min(kept) > 0.1 * (labels == 1).sum()
        assert set(np.unique(codes)) == {TRAIN, VALIDATION, TEST, BUFFER}
        seen.add(codes.tobytes())
    assert len(seen) > 1


def test_folds_judge_every_pixel_once() -> None:
    labels = made_up(5, (160, 200), share=0.003)
    folds = splits.block_folds(labels, 40, 4, buffer=8)
    assert len(folds) == 4
    np.testing.assert_array_equal(sum((codes == TEST).astype(int) for codes in folds), 1)
    for codes in folds:
        assert_apart(codes, 8)
        assert ((codes == TRAIN) & (labels == 1)).any()
        assert ((codes == VALIDATION) & (labels == 1)).any()


def test_a_test_part_may_be_left_to_another_site() -> None:
    labels = made_up(5, (160, 200), share=0.003)
    codes = splits.block_split(labels, 40, buffer=8, shares=(0.7, 0.3, 0))
    assert set(np.unique(codes)) == {TRAIN, VALIDATION, BUFFER}
    with pytest.raises(ValueError, match=r"above 0 for training and validation, not \(1, 0, 1\)"):
        splits.block_split(labels, 40, buffer=8, shares=(1, 0, 1))


def test_bad_input_in_words() -> None:
    labels = np.zeros((40, 40), "uint8")
    labels[3:6, 3:6] = 1
    with pytest.raises(DataError, match=r"9 slump pixels lie in 1 block of 16.*at least 2"):
        splits.block_split(labels, 10, buffer=2)
    labels[3:6, 33:36] = 1
    with pytest.raises(DataError, match=r"2 of the blocks of 10 x 10 pixels hold slumps.*needs 3"):
        splits.block_folds(labels, 10, 3, buffer=2)
    labels[33:36, 3:36] = 1
    with pytest.raises(DataError, match="A buffer of 60 pixels leaves no slump pixel in the train"):
        splits.block_split(labels, 10, buffer=60)
    with pytest.raises(DataError, match=r"A buffer of 60 .* of fold 1 of 3"):
        splits.block_folds(labels, 10, 3, buffer=60)
    with pytest.raises(ValueError, match="a buffer has 0 pixels or more, not -1"):
        splits.separate(labels, -1)
    with pytest.raises(ValueError, match="sides of 1 pixel or more, not 0 x 5"):
        splits.blocks_of(labels, (0, 5))
    tile = Tile("a", np.zeros((1, 4, 4), "float32"), np.zeros((4, 4), "uint8"))
    with pytest.raises(DataError, match=r"split of a has 2 x 4 pixels, its labels 4 x 4"):
        splits.view(tile, np.zeros((2, 4), "uint8"), TRAIN, 0)
    with pytest.raises(DataError, match="No pixel of a belongs to the test part"):
        splits.view(tile, np.zeros((4, 4), "uint8"), TEST, 0)


def test_soft_labels_are_cut_like_the_others() -> None:
    codes = np.array([[0, 0, 255, 2]], "uint8")
    tile = Tile(
        "a", np.ones((1, 1, 4), "float32"), np.zeros((1, 4), "uint8"),
        soft=np.full((1, 4), np.float32(0.3)),
    )  # fmt: skip
    found = splits.view(tile, codes, TEST, 1)
    assert found.labels.tolist() == [[255, 0]]
    assert found.soft is not None
    np.testing.assert_array_equal(found.soft, np.array([[np.nan, 0.3]], "float32"))


def test_sites_are_dealt_whole() -> None:
    slumps = {f"s{i}": count for i, count in enumerate([900, 300, 300, 250, 40, 0, 0])}
    found = splits.site_split(slumps)
    assert list(found) == sorted(slumps)
    total = sum(slumps.values())
    for part in splits.PARTS:
        assert sum(slumps[name] for name, own in found.items() if own == part) > 0.1 * total
    assert found == splits.site_split(dict(reversed(slumps.items())))
    with pytest.raises(DataError, match="2 of 3 sites hold slumps"):
        splits.site_split({"a": 1, "b": 2, "c": 0})


def test_every_site_is_left_out_once() -> None:
    names = ["a", "b", "c", "d"]
    found = splits.leave_one_site_out(names)
    assert [next(n for n, part in each.items() if part == "test") for each in found] == names
    for each in found:
        assert sorted(each.values()) == ["test", "train", "train", "validation"]
    with pytest.raises(DataError, match="three different sites or more; there are a, b"):
        splits.leave_one_site_out(["a", "b"])
