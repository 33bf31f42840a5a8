"""Which ground is learned from, chosen on and judged on: by site, or by blocks inside a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from thawslump.errors import DataError
from trainer.chips import IGNORE, Tile

__all__ = [
    "BUFFER",
    "PARTS",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "block_folds",
    "block_split",
    "blocks_of",
    "deal",
    "leave_one_site_out",
    "separate",
    "site_split",
    "view",
    "visible",
    "windows",
]

TRAIN, VALIDATION, TEST = 0, 1, 2
BUFFER = 255
"""Code of a pixel that belongs to no part."""
PARTS = ("train", "validation", "test")
SHARES = (0.6, 0.2, 0.2)

Codes = NDArray[np.uint8]

_TRIES = 64  # dealings that are compared by what the buffer leaves of them
_CELLS = 32  # cells along the side of a block on which they are compared


def blocks_of(
    labels: NDArray[np.uint8], block: int | tuple[int, int], *, whole: bool = True
) -> NDArray[np.int32]:
    """Return the block of each pixel.

    Parameters
    ----------
    labels : ndarray of uint8, shape (y, x)
        1 slump; every other value is ground.
    block : int or (rows, columns)
        Sides of a block in pixels, counted from the upper left corner.
    whole : bool
        All pixels of a slump (8-connected) belong to the block that holds most of them, so that
        no slump is learned by one half and judged by the other.

    Returns
    -------
    ndarray of int32, shape (y, x)

    Raises
    ------
    ValueError
        A side is below 1.

    Examples
    --------
    >>> blocks_of(np.array([[0, 1, 1, 1, 0, 0]], np.uint8), (1, 2)).tolist()
    [[0, 1, 1, 1, 2, 2]]
    """
    rows, columns = (block, block) if isinstance(block, int) else block
    if min(rows, columns) < 1:
        raise ValueError(f"a block has sides of 1 pixel or more, not {rows} x {columns}")
    wide = -(-labels.shape[1] // columns)
    down = np.arange(labels.shape[0], dtype="int32") // rows
    across = np.arange(labels.shape[1], dtype="int32") // columns
    numbers = down[:, None] * np.int32(wide) + across[None, :]
    if not whole:
        return numbers
    slumps, count = ndimage.label(labels == 1, structure=np.ones((3, 3), int))
    if count:
        inside = slumps > 0
        pairs, sizes = np.unique(
            np.stack([slumps[inside], numbers[inside]], axis=1), axis=0, return_counts=True
        )
        # Sorted by slump, then by size: the last row of a slump is the block with most of it.
        order = np.lexsort((-pairs[:, 1], sizes, pairs[:, 0]))
        owner = np.zeros(count + 1, dtype="int32")
        owner[pairs[order, 0]] = pairs[order, 1]
        numbers[inside] = owner[slumps[inside]]
    return numbers


def deal(
    positives: NDArray[Any],
    sizes: NDArray[Any],
    shares: Sequence[float],
    order: Sequence[int] | NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Deal blocks (or sites) to parts, so that every part gets slumps where there are enough.

    A block with slumps goes to the part that has the fewest slump pixels for its share, one
    without to the part that has the fewest pixels for its share. With equal shares this is how
    the spatial folds of the susceptibility models are dealt.

    Parameters
    ----------
    positives, sizes : ndarray, shape (blocks,)
        Slump pixels and pixels of each block.
    shares : sequence of float
        Of each part; above 0.
    order : sequence of int, optional
        In which the blocks are dealt; the largest number of slump pixels first where not given.

    Returns
    -------
    ndarray of int64, shape (blocks,)
        Part of each block.

    Examples
    --------
    >>> deal(np.array([9, 0, 5, 1]), np.array([10, 10, 10, 10]), (0.5, 0.5)).tolist()
    [0, 0, 1, 1]
    """
    positives, sizes = np.asarray(positives), np.asarray(sizes)
    if order is None:
        order = np.lexsort((np.arange(len(sizes)), -sizes, -positives))
    part_of = np.zeros(len(sizes), np.int64)
    slumps, pixels = [0.0] * len(shares), [0.0] * len(shares)
    # Blocks with slumps come first in any order: what is left evens out the ground.
    for block in sorted(map(int, order), key=lambda each: positives[each] == 0):
        held = positives[block] > 0
        part = min(
            range(len(shares)),
            key=lambda each: (slumps[each] / shares[each] if held else 0.0,
                              pixels[each] / shares[each], each),
        )  # fmt: skip
        part_of[block] = part
        slumps[part] += float(positives[block])
        pixels[part] += float(sizes[block])
    return part_of


def separate(parts: Codes, buffer: int) -> Codes:
    """Lay a buffer between parts: what is learned lies away from what is judged.

    Parameters
    ----------
    parts : ndarray of uint8, shape (y, x)
        TRAIN, VALIDATION, TEST or BUFFER of each pixel.
    buffer : int
        Pixels that lie between two parts at least, counted along rows, columns or diagonals.

    Returns
    -------
    ndarray of uint8, shape (y, x)
        The same, BUFFER where a training pixel was within `buffer` of one of validation or
        test, or one of validation within `buffer` of one of test. The test part stays as it is.

    Raises
    ------
    ValueError
        `buffer` is below 0.

    Examples
    --------
    >>> separate(np.array([[0, 0, 0, 2, 1, 1]], np.uint8), 1).tolist()
    [[0, 0, 255, 2, 255, 1]]
    """
    if buffer < 0:
        raise ValueError(f"a buffer has 0 pixels or more, not {buffer}")
    codes = parts.copy()
    codes[(codes == VALIDATION) & _near(parts == TEST, buffer)] = BUFFER
    held = (codes == VALIDATION) | (codes == TEST)
    codes[(codes == TRAIN) & _near(held, buffer)] = BUFFER
    return codes


def _near(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Return what lies within a distance of a mask, by the larger of rows and columns."""
    grown = mask.astype("uint8")
    for axis in (0, 1):
        # A filter far longer than its axis would be slower, and no different.
        reach = min(distance, mask.shape[axis])
        grown = ndimage.maximum_filter1d(grown, 2 * reach + 1, axis=axis, mode="constant")
    return np.asarray(grown, dtype=bool)


def block_split(
    labels: NDArray[np.uint8],
    block: int | tuple[int, int],
    *,
    buffer: int,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    whole: bool = True,
) -> Codes:
    """Split one site by spatial blocks into a training, a validation and a test part.

    Parameters
    ----------
    labels : ndarray of uint8, shape (y, x)
        1 slump, 0 not, 255 not looked at.
    block : int or (rows, columns)
        Sides of a block in pixels: several crops, so that the buffer leaves something.
    buffer : int
        Pixels between two parts; half a crop is usual.
    shares : sequence of 3 float
        Of the slump pixels (and of the ground), before the buffer is taken off; 0 for the test
        part where another site is the test.
    seed : int
        Of the dealings that are compared: of several, the one is taken whose parts keep most of
        their slump pixels behind the buffer. Equal seeds give equal splits.
    whole : bool
        No slump is cut, see `blocks_of`.

    Returns
    -------
    ndarray of uint8, shape (y, x)
        TRAIN, VALIDATION, TEST, or BUFFER.

    Raises
    ------
    DataError
        Fewer than two blocks hold slumps, or the buffer leaves training or validation without
        one. With two such blocks, the test part has none.

    Examples
    --------
    >>> labels = np.zeros((1, 12), np.uint8); labels[0, [1, 5, 9]] = 1
    >>> block_split(labels, (1, 4), buffer=1, shares=(1, 1, 1)).tolist()
    [[0, 0, 0, 255, 1, 1, 1, 255, 2, 2, 2, 2]]
    """
    if len(shares) != len(PARTS) or min(shares[:2]) <= 0 or shares[2] < 0:
        raise ValueError(
            f"a split has three shares, above 0 for training and validation, not {tuple(shares)}"
        )
    ids = blocks_of(labels, block, whole=whole)
    asked = [share for share in shares if share > 0]
    part_of = _search(ids, labels, asked, buffer, seed, _split_kept)
    codes = separate(part_of[ids].astype("uint8"), buffer)
    for part in (TRAIN, VALIDATION):
        if not ((codes == part) & (labels == 1)).any():
            raise DataError(
                f"A buffer of {buffer} pixels leaves no slump pixel in the {PARTS[part]} part "
                f"(blocks of {_words(block)} pixels on {_words(labels.shape)}).",
                hint="Make the buffer smaller (a smaller crop does), or blocks of another size.",
            )
    return codes


def block_folds(
    labels: NDArray[np.uint8],
    block: int | tuple[int, int],
    folds: int,
    *,
    buffer: int,
    seed: int = 0,
    whole: bool = True,
) -> list[Codes]:
    """Split one site by spatial blocks for cross-validation: every pixel is judged once.

    Parameters
    ----------
    labels, block, buffer, seed, whole
        As for `block_split`.
    folds : int
        3 or more; lowered to the number of blocks that hold slumps where there are fewer.

    Returns
    -------
    list of ndarray of uint8, shape (y, x)
        In fold k the blocks dealt to k are TEST, those dealt to k + 1 VALIDATION, all others
        TRAIN, with the buffer between them.

    Raises
    ------
    DataError
        Fewer than three blocks hold slumps, or the buffer leaves a fold without slumps to learn
        from or to choose on.

    Examples
    --------
    >>> labels = np.zeros((1, 9), np.uint8); labels[0, [1, 4, 7]] = 1
    >>> [codes.tolist()[0] for codes in block_folds(labels, (1, 3), 3, buffer=0)]
    [[2, 2, 2, 1, 1, 1, 0, 0, 0], [0, 0, 0, 2, 2, 2, 1, 1, 1], [1, 1, 1, 0, 0, 0, 2, 2, 2]]
    """
    if folds < 3:
        raise ValueError(f"folds for training, validation and test are 3 or more, not {folds}")
    ids = blocks_of(labels, block, whole=whole)
    holding = np.unique(ids[labels == 1]).size
    if holding < 3:
        raise DataError(
            f"{holding} of the blocks of {_words(block)} pixels hold slumps; cross-validation "
            "needs 3 at least: one to learn from, one to choose on, one to judge on.",
            hint="Make the blocks smaller.",
        )
    count = min(folds, holding)
    part_of = _search(ids, labels, [1.0] * count, buffer, seed, _folds_kept)
    found = []
    for fold in range(count):
        codes = separate(_as_codes(part_of, fold, count)[ids], buffer)
        for part in (TRAIN, VALIDATION):
            if not ((codes == part) & (labels == 1)).any():
                raise DataError(
                    f"A buffer of {buffer} pixels leaves no slump pixel in the {PARTS[part]} part "
                    f"of fold {fold + 1} of {count} (blocks of {_words(block)} pixels on "
                    f"{_words(labels.shape)}).",
                    hint="Make the buffer smaller, or take fewer folds or larger blocks.",
                )
        found.append(codes)
    return found


def _words(sides: int | Sequence[int]) -> str:
    rows, columns = (sides, sides) if isinstance(sides, int) else sides
    return f"{rows} x {columns}"


def _as_codes(part_of: NDArray[np.int64], fold: int, count: int) -> Codes:
    turn = (part_of - fold) % count
    return np.select([turn == 0, turn == 1], [TEST, VALIDATION], TRAIN).astype("uint8")


def _split_kept(
    part_of: NDArray[np.int64],
    ids: NDArray[np.int32],
    slump: NDArray[np.bool_],
    shares: Sequence[float],
    buffer: int,
) -> tuple[float, ...]:
    """Return how good a dealing is: the worst part's kept slumps for its share, then all kept."""
    codes = separate(part_of[ids].astype("uint8"), buffer)
    kept = np.array([np.count_nonzero(slump & (codes == part)) for part in range(len(shares))])
    # A second block in one part is no gain while another part has none.
    return (
        float(np.count_nonzero(kept[:2])),
        float(np.count_nonzero(kept)),
        float((kept / np.asarray(shares)).min()),
        float(kept.sum()),
    )


def _folds_kept(
    part_of: NDArray[np.int64],
    ids: NDArray[np.int32],
    slump: NDArray[np.bool_],
    shares: Sequence[float],
    buffer: int,
) -> tuple[float, ...]:
    """Return how good a dealing into folds is: what the worst fold has left, then all of them."""
    kept = []
    for fold in range(len(shares)):
        codes = separate(_as_codes(part_of, fold, len(shares))[ids], buffer)
        kept.append([np.count_nonzero(slump & (codes == part)) for part in (TRAIN, VALIDATION)])
    return float(np.count_nonzero(kept)), float(np.min(kept)), float(np.sum(kept))


def _search(
    ids: NDArray[np.int32],
    labels: NDArray[np.uint8],
    shares: Sequence[float],
    buffer: int,
    seed: int,
    kept: Any,
) -> NDArray[np.int64]:
    """Return the part of each block: of several dealings the one that the buffer hurts least."""
    slump = labels == 1
    total = int(ids.max()) + 1 if ids.size else 0
    positives = np.bincount(ids[slump], minlength=total)
    sizes = np.bincount(ids.ravel(), minlength=total)
    holding = int((positives > 0).sum())
    if holding < 2:
        raise DataError(
            f"The {int(positives.sum())} slump pixels lie in {holding} block of {total}; "
            "a split by blocks needs slumps in at least 2.",
            hint="Make the blocks smaller, or split by sites.",
        )
    # The buffer is tried out on every few-th pixel only: a choice needs no more.
    side = int(np.sqrt(sizes.max()))
    step = max(1, side // _CELLS, -(-max(labels.shape) // 512))
    coarse, marked = ids[::step, ::step], slump[::step, ::step]
    reach = -(-buffer // step)
    random = np.random.default_rng(seed)
    best: tuple[tuple[float, ...], NDArray[np.int64]] | None = None
    for attempt in range(_TRIES):
        order = None if attempt == 0 else random.permutation(total)
        dealt = deal(positives, sizes, shares, order)
        score = kept(dealt, coarse, marked, shares, reach)
        if best is None or score > best[0]:
            best = score, dealt
    assert best is not None
    return best[1]


def visible(codes: Codes, part: int, buffer: int) -> NDArray[np.bool_]:
    """Return the pixels that a model may see of a part.

    Parameters
    ----------
    codes : ndarray of uint8, shape (y, x)
        From `block_split` or `separate` with the same `buffer`.
    part : int
        TRAIN, VALIDATION or TEST.
    buffer : int

    Returns
    -------
    ndarray of bool, shape (y, x)
        In training the pixels of the part itself. In validation and test also those around it,
        as far as the buffer goes: none of them is a pixel that was trained on.

    Examples
    --------
    >>> visible(np.array([[0, 0, 255, 2, 2]], np.uint8), TEST, 1).tolist()
    [[False, False, True, True, True]]
    """
    inside = codes == part
    return inside if part == TRAIN else _near(inside, buffer)


def windows(codes: Codes, part: int, crop: int) -> NDArray[np.bool_]:
    """Return where crops may begin that lie in one part as a whole.

    Parameters
    ----------
    codes : ndarray of uint8, shape (y, x)
    part : int
    crop : int
        Side in pixels.

    Returns
    -------
    ndarray of bool, shape (y - crop + 1, x - crop + 1)
        Upper left corners; without an element where the raster is smaller than a crop.

    Examples
    --------
    >>> windows(np.array([[0, 0, 0], [0, 0, 255]], np.uint8), TRAIN, 2).tolist()
    [[True, False]]
    """
    if min(codes.shape) < crop:
        rows, columns = (max(0, side - crop + 1) for side in codes.shape)
        return np.zeros((rows, columns), dtype=bool)
    sums = np.pad((codes == part).astype("int64"), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[crop:, crop:] - sums[:-crop, crop:] - sums[crop:, :-crop] + sums[:-crop, :-crop]
    return np.asarray(inside == crop * crop)


def view(tile: Tile, codes: Codes, part: int, buffer: int) -> Tile:
    """Return a tile of which only one part is there.

    Crops of it may reach beyond the part, but hold nothing from there: values are missing and
    labels are 255, as at the edge of a raster.

    Parameters
    ----------
    tile : Tile
    codes : ndarray of uint8, shape (y, x)
    part, buffer : int
        As for `visible`.

    Returns
    -------
    Tile
        Values where `visible`, labels in the part itself; cut to the rectangle around them.

    Raises
    ------
    DataError
        The codes are of another shape, or no pixel belongs to the part.
    """
    if codes.shape != tile.labels.shape:
        raise DataError(
            f"The split of {tile.name} has {_words(codes.shape)} pixels, "
            f"its labels {_words(tile.labels.shape)}."
        )
    seen, inside = visible(codes, part, buffer), codes == part
    if not inside.any():
        raise DataError(
            f"No pixel of {tile.name} belongs to the {PARTS[part]} part.",
            hint="Use smaller blocks or a smaller buffer.",
        )
    box = ndimage.find_objects(seen.astype("uint8"))[0]
    array = np.where(seen[box], tile.array[(slice(None), *box)], np.float32(np.nan))
    labels = np.where(inside[box], tile.labels[box], np.uint8(IGNORE))
    soft = tile.soft
    if soft is not None:
        soft = np.where(inside[box], soft[box], np.float32(np.nan))
    return replace(tile, array=array, labels=labels, soft=soft)


def site_split(
    slumps: Mapping[str, int], *, shares: Sequence[float] = SHARES, seed: int = 0
) -> dict[str, str]:
    """Deal whole sites to the three parts.

    Parameters
    ----------
    slumps : mapping of site to number of slump pixels
    shares : sequence of 3 float
    seed : int
        Which sites come first among those with as many slump pixels.

    Returns
    -------
    dict of site to "train", "validation" or "test"
        In the order of the names.

    Raises
    ------
    DataError
        Fewer than three sites hold slumps.

    Examples
    --------
    >>> site_split({"a": 50, "b": 20, "c": 20})
    {'a': 'train', 'b': 'test', 'c': 'validation'}
    """
    names = sorted(slumps)
    counts = np.array([slumps[name] for name in names], dtype="int64")
    if (counts > 0).sum() < 3:
        raise DataError(
            f"{int((counts > 0).sum())} of {len(names)} sites hold slumps; "
            "a split by sites needs 3.",
            hint="Split by blocks inside the sites, or add sites.",
        )
    mixed = np.random.default_rng(seed).permutation(len(names))
    order = mixed[np.argsort(-counts[mixed], kind="stable")]
    dealt = deal(counts, np.ones_like(counts), shares, order)
    return {name: PARTS[part] for name, part in zip(names, dealt, strict=True)}


def leave_one_site_out(names: Sequence[str]) -> list[dict[str, str]]:
    """Return one split per site, in which it is the test and the next one the validation.

    Raises
    ------
    DataError
        There are fewer than three sites.

    Examples
    --------
    >>> leave_one_site_out(["a", "b", "c"])[0]
    {'a': 'test', 'b': 'validation', 'c': 'train'}
    """
    if len(set(names)) != len(names) or len(names) < 3:
        raise DataError(
            f"Leaving one site out needs three different sites or more; there are "
            f"{', '.join(names) or 'none'}.",
            hint="Split by blocks inside the sites.",
        )
    return [
        {
            name: "test" if i == out else "validation" if i == (out + 1) % len(names) else "train"
            for i, name in enumerate(names)
        }
        for out in range(len(names))
    ]
