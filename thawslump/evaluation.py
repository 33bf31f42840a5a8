"""Scores that the report takes itself: every band alone, and the ensembles on test sites."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.results import Results, Score, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawslump.scores import BandRule
    from thawslump.workspace import Workspace

__all__ = [
    "BandRow",
    "Bands",
    "band_table",
    "class_shares",
    "newest",
    "split_of",
    "with_test_scores",
]


@dataclass(frozen=True)
class BandRow:
    """How well one band alone tells slumps from other ground.

    Attributes
    ----------
    name, unit, description, origin : str
    auc : Score
        Turned so that it is at least 0.5.
    direction : str
        "higher" or "lower" on slumps; "by class" where the values are class numbers, which have
        no order: a class then stands for its share of slumps on the training sites; or
        "does not vary".
    valid : float
        Share of the looked-at pixels that have a value.
    """

    name: str
    unit: str
    description: str
    origin: str
    auc: Score
    direction: str
    valid: float


@dataclass
class Bands:
    """The table of bands, what it was taken over, and which bands are absent where.

    `rule` is the best threshold on one band, chosen on the training sites; `rule_splits` its
    scores elsewhere.
    """

    rows: list[BandRow] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    pixels: int = 0
    slumps: int = 0
    block: float = 0.0
    absent: dict[str, list[str]] = field(default_factory=dict)
    rule: BandRule | None = None
    rule_band: str = ""
    rule_splits: dict[str, Split] = field(default_factory=dict)


_BLOCK = 50
"""Side of a block in pixels for the intervals of the band table."""


def band_table(workspace: Workspace, results: Results) -> Bands:
    """Score every band on the sites whose outlines were brought (areas are looked at in part)."""
    import numpy as np

    from thawslump import raster
    from thawslump.bands import BANDS
    from thawslump.scores import band_auc, block_ids

    found = Bands()
    pooled: dict[str, list[NDArray[Any]]] = {}
    labels: dict[str, list[NDArray[Any]]] = {}
    blocks: dict[str, list[NDArray[Any]]] = {}
    roles: dict[str, list[str]] = {}
    offset = 0
    for name, site in workspace.sites.items():
        stack_path = workspace.stack(name)
        if not stack_path.exists():
            continue
        with raster.open_raster(stack_path) as source:
            present = tuple(d or f"band{i + 1}" for i, d in enumerate(source.descriptions))
        if site.source == "earthengine":
            for band in site.bands:
                lacking = found.absent.setdefault(band, []) if band not in present else []
                # Of a large area, some parts may lack what others have.
                if band not in present and (area := workspace.area_of(name)) not in lacking:
                    lacking.append(area)
        path = newest([workspace.labels(number, name) for number in range(results.round, 0, -1)])
        if path is None or site.role == "area":
            continue
        # Large sites are thinned to about four million pixels: a ranking needs no more.
        shape = raster.grid_of(stack_path).shape
        step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / 4e6)))
        marks = raster.read(path).array[0][::step, ::step]
        block = block_ids(marks.shape, _BLOCK, step) + offset
        offset = int(block.max()) + 1
        for band in present:
            values = raster.read_float(stack_path, [band]).array[0][::step, ::step]
            if values.shape != marks.shape:
                continue
            pooled.setdefault(band, []).append(values.ravel())
            labels.setdefault(band, []).append(marks.ravel())
            blocks.setdefault(band, []).append(block.ravel())
            roles.setdefault(band, []).append(site.role)
        found.sites.append(name)
        found.pixels += int((marks != 255).sum())
        found.slumps += int((marks == 1).sum())
        found.block = _BLOCK * abs(raster.grid_of(stack_path).transform.a)
    for band, parts in pooled.items():
        values, truth = np.concatenate(parts), np.concatenate(labels[band])
        looked = truth != 255
        known = BANDS.get(band)
        valid = float(np.isfinite(values[looked]).mean())
        classes = _has_classes(band)
        if classes:
            learnt = [np.full(part.shape, role == "train") for part, role in
                      zip(parts, roles[band], strict=True)]  # fmt: skip
            values = class_shares(values, truth, np.concatenate(learnt))
        auc, low, high, _, _ = band_auc(values, truth, np.concatenate(blocks[band]))
        if not math.isfinite(auc):
            continue
        seen = values[looked & np.isfinite(values)]
        if seen.min() == seen.max():
            direction = "does not vary"
        elif classes:
            direction = "by class"
        elif auc < 0.5:
            auc, low, high = 1 - auc, 1 - high, 1 - low
            direction = "lower"
        else:
            direction = "higher"
        found.rows.append(
            BandRow(
                band,
                known.unit if known and known.unit != "1" else "",
                known.description if known else "own band",
                known.origin if known else "",
                Score(auc, low, high),
                direction,
                valid,
            )
        )
    found.rows.sort(key=lambda row: (-row.auc.value, row.name))
    _add_rule(found, pooled, labels, blocks, roles)
    return found


def _has_classes(band: str) -> bool:
    from thawslump.bands import BANDS

    known = BANDS.get(band)
    return known is not None and known.categorical and not known.mask


def class_shares(
    values: NDArray[Any], truth: NDArray[Any], learnt: NDArray[Any]
) -> NDArray[np.float64]:
    """Return for each pixel the share of slumps that its class has where `learnt` is true.

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        Class numbers, NaN where missing.
    truth : ndarray of uint8, shape (n,)
        1 slump, 0 not, 255 not looked at.
    learnt : ndarray of bool, shape (n,)
        All pixels count where none is.

    Returns
    -------
    ndarray of float64, shape (n,)
        A class that does not occur there has the share of all; missing values stay NaN.

    Examples
    --------
    >>> import numpy as np
    >>> class_shares(np.array([3.0, 3, 7, 9]), np.array([1, 0, 0, 1]), np.array([1, 1, 1, 0]) > 0)
    array([0.5       , 0.5       , 0.        , 0.33333333])
    """
    import numpy as np

    used = (truth != 255) & np.isfinite(values)
    used &= learnt if (used & learnt).any() else True
    out = np.where(np.isfinite(values), truth[used].mean() if used.any() else np.nan, np.nan)
    for number in np.unique(values[used]):
        out[values == number] = truth[used & (values == number)].mean()
    return out


def _add_rule(
    found: Bands,
    pooled: Mapping[str, list[NDArray[Any]]],
    labels: Mapping[str, list[NDArray[Any]]],
    blocks: Mapping[str, list[NDArray[Any]]],
    roles: Mapping[str, list[str]],
) -> None:
    """Choose the best threshold on one band over the training sites, and score it elsewhere."""
    import numpy as np

    from thawslump.scores import best_rule, block_counts

    def part(source: list[NDArray[Any]], band: str, role: str) -> NDArray[Any]:
        chosen = [a for a, its in zip(source, roles[band], strict=True) if its == role]
        return np.concatenate(chosen) if chosen else np.zeros(0)

    for band in sorted(pooled):
        if _has_classes(band):  # a threshold on class numbers is no rule
            continue
        rule = best_rule(part(pooled[band], band, "train"), part(labels[band], band, "train"))
        if rule is not None and (found.rule is None or rule.f1 > found.rule.f1):
            found.rule, found.rule_band = rule, band
    if found.rule is None:
        return
    band = found.rule_band
    for split in ("validation", "test"):
        values = part(pooled[band], band, split)
        if values.size:
            counts = block_counts(
                found.rule.as_probability(values), part(labels[band], band, split), 0.5,
                part(blocks[band], band, split),
            )  # fmt: skip
            score = split_of(counts)
            if score is not None:
                found.rule_splits[split] = score


def newest(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _pairs(
    workspace: Workspace, role: str, number: int
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.uint8]]]:
    """Yield name, probability and labels of the sites of a role that were mapped in a round."""
    from thawslump import raster

    for name, site in workspace.sites.items():
        path, labels = workspace.maps(number) / f"{name}.tif", workspace.labels(number, name)
        if site.role != role or not path.exists() or not labels.exists():
            continue
        probability = raster.read_float(path, ["probability"]).array[0]
        marks = raster.read(labels).array[0]
        if marks.shape == probability.shape:
            yield name, probability, marks


def split_of(counts: NDArray[np.int64]) -> Split | None:
    """Return scores of blocks of (hits, false alarms, misses)."""
    from thawslump.scores import f1_interval

    f1, low, high = f1_interval(counts)
    if not math.isfinite(f1):
        return None
    tp, fp, fn = (int(v) for v in counts.sum(axis=0))
    return Split(
        Score(f1, low, high),
        tp / (tp + fp) if tp + fp else None,
        tp / (tp + fn) if tp + fn else None,
        (tp + fp) / (tp + fn) if tp + fn else None,
    )


def with_test_scores(workspace: Workspace, results: Results) -> Results:
    """Add the ensembles' scores on test sites: their map at their threshold against the labels.

    Pixels go to `splits["test"]`; slumps as objects and edges to `facts["test"]`, in the form in
    which the ensemble's own file has those of validation.
    """
    import numpy as np

    from thawslump.scores import block_counts, block_ids

    ensembles = []
    for model in results.ensembles:
        if "test" not in model.splits and model.threshold is not None:
            pairs = list(_pairs(workspace, "test", model.round))
            counts = [
                block_counts(probability, marks, model.threshold, block_ids(marks.shape, _BLOCK))
                for _, probability, marks in pairs
            ]
            found = split_of(np.concatenate(counts)) if counts else None
            if found is not None:
                model = replace(
                    model,
                    splits={**model.splits, "test": found},
                    facts={**model.facts, "test": _outlines(workspace, model.threshold, pairs)},
                )
        ensembles.append(model)
    return replace(results, ensembles=tuple(ensembles))


def _outlines(
    workspace: Workspace,
    threshold: float,
    pairs: Sequence[tuple[str, NDArray[np.float32], NDArray[np.uint8]]],
) -> dict[str, Any]:
    """Return object and boundary scores of maps at a threshold, on whole test sites."""
    import numpy as np

    from thawslump.grid import metres_per_pixel
    from thawslump.objects import outline_record
    from thawslump.raster import grid_of
    from thawslump.scores import draw_interval

    # A map that has nodata where somebody looked has mapped nothing there, but is not judged.
    marks = [np.where(np.isfinite(p), m, 255).astype("uint8") for _, p, m in pairs]
    return outline_record(
        [np.nan_to_num(p, nan=-1) >= np.float32(threshold) for _, p, _ in pairs],
        marks,
        resolution=metres_per_pixel(grid_of(workspace.stack(pairs[0][0]))),
        block=_BLOCK,
        interval=draw_interval,
    )
