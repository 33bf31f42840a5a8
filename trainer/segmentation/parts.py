"""Which tiles are learned from, chosen on and judged on: by the roles of sites, or by blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError
from thawslump.grid import same_grid
from thawslump.raster import grid_of, read_float
from trainer.chips import IGNORE, Tile
from trainer.splits import PARTS, block_split, view

__all__ = ["by_part", "counts", "with_soft"]


def by_part(
    tiles: Sequence[Tile], roles: Mapping[str, str], split: Mapping[str, Any] | None
) -> dict[str, list[Tile]]:
    """Return the tiles of each part.

    Parameters
    ----------
    tiles : sequence of Tile
    roles : mapping of site to role
        train, validation, test or area; reviewed areas are learned from.
    split : mapping, optional
        "block", "buffer" and "seed" of `trainer.splits.block_split`. With it, each site of role
        train becomes a tile in each part; without it, roles are parts.

    Returns
    -------
    dict of "train", "validation" and "test" to list of Tile
        In the order given. A test part without a slump pixel is left out.

    Raises
    ------
    DataError
        A site cannot be split so.
    """
    found: dict[str, list[Tile]] = {part: [] for part in PARTS}
    for tile in tiles:
        role = roles[tile.name]
        if split is None or role != "train":
            found["train" if role == "area" else role].append(tile)
            continue
        try:
            codes = block_split(
                tile.labels, split["block"], buffer=split["buffer"], seed=split["seed"]
            )
        except DataError as error:
            raise DataError(
                f"Site {tile.name}: {error.message}",
                hint=f"{error.hint or ''} The settings are split_block and split_buffer.".strip(),
            ) from error
        for number, part in enumerate(PARTS):
            if part == "test" and not ((codes == number) & (tile.labels == 1)).any():
                continue
            found[part].append(view(tile, codes, number, split["buffer"]))
    return found


def counts(parts: Mapping[str, Sequence[Tile]]) -> dict[str, dict[str, dict[str, int]]]:
    """Return the looked-at pixels and the slump pixels of each part of each site, for a record."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for part, tiles in parts.items():
        for tile in tiles:
            own = found.setdefault(tile.name, {}).setdefault(part, {"pixels": 0, "slumps": 0})
            own["pixels"] += int((tile.labels != IGNORE).sum())
            own["slumps"] += int((tile.labels == 1).sum())
    return found


def with_soft(tile: Tile, stack: Path, path: Path | None) -> Tile:
    """Return a tile with soft labels: those of a file, or without one its labels as 0 and 1.

    Parameters
    ----------
    tile : Tile
        Read whole.
    stack : Path
        Whose grid the file must have.
    path : Path, optional
        GeoTIFF, float: share of the experts, 0 to 1; NaN not looked at.

    Raises
    ------
    DataError
        The grid differs, or a value is none of 0 to 1.
    """
    if path is None:
        hard = np.where(tile.labels == IGNORE, np.nan, tile.labels).astype("float32")
        return replace(tile, soft=hard)
    if not same_grid(grid_of(stack), grid_of(path)):
        raise DataError(
            f"{path} is not on the grid of {stack}.",
            hint="Rasterise the share of the experts onto the grid of the stack.",
        )
    soft = read_float(path).array[0]
    strange = soft[np.isfinite(soft) & ((soft < 0) | (soft > 1))]
    if strange.size:
        raise DataError(
            f"{path} holds the value {strange[0]:g}; a share of the experts lies between 0 and 1."
        )
    return replace(tile, soft=soft)
