"""Step `susceptibility-samples`: cells that stand for slumps, and cells that stand for none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from thawslump import raster
from thawslump.errors import DataError
from trainer.susceptibility import models, samples, table
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.files import Files
from trainer.susceptibility.table import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["draw", "run"]

NOT_SETTINGS = ("learn", "test", "made_up")
LABEL_RULE = (
    "a 30 m cell stands for a slump where at least half of its label pixels are slump; "
    "a slump too small for that keeps the one cell it covers most"
)


def draw(
    sites: Sequence[tuple[str, Path, Path]],
    config: SusceptibilityConfig,
    classes: dict[str, tuple[int, ...]] | None = None,
) -> Samples:
    """Draw the samples from triples of (site, factors.tif, labels.tif).

    Parameters
    ----------
    sites : sequence of (str, Path, Path)
        In an order that does not change from run to run.
    config : SusceptibilityConfig
    classes : dict, optional
        Of the factors that hold classes; those of the samples drawn, where not given.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        The rasters do not lie on each other, or there is no slump, or no place without one.
    """
    rng = np.random.default_rng(config.seed)
    positive: list[dict[str, NDArray[Any]]] = []
    free: list[dict[str, NDArray[Any]]] = []
    slumps_seen = 0
    for number, (_, factors_path, labels_path) in enumerate(sites):
        read = raster.read_float(factors_path, config.factors or None)
        factors, grid = np.asarray(read.array, np.float32), read.grid
        labels = raster.read(labels_path)
        if labels.grid.crs != grid.crs:
            raise DataError(
                f"{labels_path} is in {labels.grid.crs}, {factors_path} in {grid.crs}; "
                "one coordinate system was expected.",
                hint="Run the labels step again.",
            )
        marks = labels.array[0].astype(np.uint8)
        shape, affine = (int(grid.shape[0]), int(grid.shape[1])), grid.affine
        counts = samples.count_labels(marks, labels.grid.affine, shape, affine)
        if not (counts.slump.any() or counts.clear.any()) and (marks != 255).any():
            raise DataError(
                f"{labels_path} and {factors_path} do not overlap.",
                hint="Export the site again; both must cover the same ground.",
            )
        usable = ~np.isnan(factors).all(axis=0).ravel()
        columns = factors.reshape(len(factors), -1)
        corner = np.array([affine.c, affine.f])
        to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)

        def part(
            cells: NDArray[np.int64],
            places: NDArray[np.float64] | None,
            slumps: NDArray[np.int64] | None,
            columns: NDArray[np.float32] = columns,
            shape: tuple[int, int] = shape,
            affine: Any = affine,
            corner: NDArray[np.float64] = corner,
            to_lonlat: Transformer = to_lonlat,
            number: int = number,
        ) -> dict[str, NDArray[Any]]:
            row, column = np.divmod(cells, shape[1])
            centre = np.stack(
                [affine.c + (column + 0.5) * affine.a, affine.f + (row + 0.5) * affine.e], axis=1
            )
            return {
                "factors": columns[:, cells],
                "places": (centre if places is None else places) - corner,
                "sites": np.full(cells.size, number, np.int64),
                "slumps": np.full(cells.size, -1, np.int64) if slumps is None else slumps,
                "lonlat": np.stack(to_lonlat.transform(centre[:, 0], centre[:, 1]), axis=1),
            }

        cells, slumps, centres = samples.slump_cells(marks, labels.grid.affine, shape, affine)
        kept = usable[cells]
        cells, slumps = cells[kept], slumps[kept]
        chosen = samples.draw_positives(cells, slumps, config.cells_per_slump, rng)
        positive.append(part(cells[chosen], centres[slumps[chosen]], slumps[chosen] + slumps_seen))
        slumps_seen += len(centres)
        candidates = samples.negative_candidates(counts, affine, config.buffer)
        free.append(part(candidates[usable[candidates]], None, None))

    found, others = _joined(positive), _joined(free)
    wanted_of = len(found["sites"])
    if wanted_of < 2:
        raise DataError(
            f"The labels of {len(sites)} sites hold {np.unique(found['slumps']).size} slumps; "
            "susceptibility needs at least 2 cells with a slump.",
            hint="Import outlines, or accept candidates in the review.",
        )
    if len(others["sites"]) == 0:
        raise DataError(
            f"No cell without a slump was looked at beyond {config.buffer:g} m of every slump.",
            hint="Make buffer smaller, or add sites that were looked at as a whole.",
        )
    wanted = int(np.ceil(wanted_of * config.negatives_per_positive))
    size = len(others["sites"])
    drawn = np.sort(rng.choice(size, min(wanted, size), replace=False))
    both = {
        key: np.concatenate([values, others[key][..., drawn]], axis=-1)
        if key == "factors"
        else np.concatenate([values, others[key][drawn]])
        for key, values in found.items()
    }
    names = config.factors or read.names
    factors_of = dict(zip(names, both["factors"], strict=True))
    return Samples(
        factors=factors_of,
        labels=np.r_[np.ones(wanted_of, np.uint8), np.zeros(len(drawn), np.uint8)],
        places=both["places"],
        sites=both["sites"],
        site_names=tuple(name for name, _, _ in sites),
        slumps=both["slumps"],
        lonlat=both["lonlat"],
        classes=models.classes_of(factors_of) if classes is None else classes,
        facts={
            "label_rule": LABEL_RULE,
            "buffer_m": config.buffer,
            "n_slumps": int(np.unique(found["slumps"]).size),
        },
    )


def _joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {
        key: np.concatenate([each[key] for each in parts], axis=-1 if key == "factors" else 0)
        for key in parts[0]
    }


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Draw and write the samples of the sites that are learned from, and of those that test."""
    settings = dict(item.settings)
    config = SusceptibilityConfig.model_validate(
        {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    )
    files = Files(workspace, item.round)

    def sites(names: Sequence[str]) -> list[tuple[str, Path, Path]]:
        return [
            (name, workspace.factors(name), workspace.labels(item.round, name)) for name in names
        ]

    progress(0.0, "drawing samples")
    drawn = draw(sites(settings["learn"]), config)
    table.write(files.samples, drawn)
    if settings["test"]:
        progress(0.6, "drawing samples of held-out sites")
        try:
            elsewhere = draw(sites(settings["test"]), config, drawn.classes)
        except DataError:
            # A held-out site without slumps says nothing; the folds stand by themselves.
            elsewhere = drawn.none()
        table.write(files.test_samples, elsewhere)
    progress(1.0, "done")
    return {
        "positives": int((drawn.labels == 1).sum()),
        "negatives": int((drawn.labels == 0).sum()),
        "slumps": int(drawn.facts["n_slumps"]),
    }
