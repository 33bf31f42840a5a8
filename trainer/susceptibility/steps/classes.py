"""Step `susceptibility`: classes that all maps share, what lies in them, and the summary."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.files import write_json, write_text
from thawslump.mosaic import of_maps, write_vrt
from trainer.susceptibility import held, map_figures, mapping, table
from trainer.susceptibility.breaks import Breaks, natural_breaks
from trainer.susceptibility.files import Files
from trainer.susceptibility.legend import class_words
from trainer.susceptibility.steps.deformation import overlay
from trainer.susceptibility.steps.map import cuts_of
from trainer.susceptibility.tally import Cut, Tally, bins

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["few_classes", "frequency_ratios", "run", "shares"]

Floats = NDArray[np.float64]


def few_classes(tally: Tally, wanted: int, where: str) -> tuple[Breaks, str | None]:
    """Return natural breaks over a map, and words where there are fewer classes than asked for.

    Parameters
    ----------
    tally : Tally
        Of all maps that share the classes.
    wanted : int
    where : str
        Of what, for the words.

    Raises
    ------
    DataError
        No map holds a valid cell.
    """
    cells = tally.binned()
    if not cells.any():
        raise DataError(
            f"No cell of {where} is valid: in every one all factors are missing.",
            hint="Look at factors.tif of the sites; export them again where they are empty.",
        )
    found = natural_breaks(bins(), cells, wanted)
    if len(found.upper) == wanted:
        return found, None
    values = int(np.count_nonzero(cells))
    told = "value" if values == 1 else "different values"
    return found, (
        f"Probabilities of {where} take only {values} {told} (in steps of 0.0005): "
        f"{len(found.upper)} class{'es' * (len(found.upper) > 1)} instead of {wanted}, "
        "since the others would be empty."
    )


def shares(counted: NDArray[np.int64], upper: Sequence[float]) -> list[float] | None:
    """Return the share of counted cells in each class; None where nothing was counted.

    Parameters
    ----------
    counted : ndarray of int64, shape (10001,)
        Cells by stored probability.
    upper : sequence of float
        Largest probability of each class.

    Examples
    --------
    >>> counted = np.zeros(10001, int)
    >>> counted[[0, 9999]] = 3, 1
    >>> shares(counted, (0.5, 1.0))
    [0.75, 0.25]
    """
    steps = np.rint(np.asarray(upper) * mapping.LEVELS)
    of = mapping.classify(np.arange(counted.size), steps).astype(np.int64) - 1
    found = np.bincount(of, weights=counted, minlength=len(upper))
    total = float(found.sum())
    return (found / total).tolist() if total else None


def frequency_ratios(
    tally: Tally, cuts: Sequence[Cut], high: Sequence[float] | None
) -> list[dict[str, Any]]:
    """Return a row per class of every factor.

    Parameters
    ----------
    tally : Tally
        Of all maps.
    cuts : sequence of Cut
    high : sequence of float, optional
        Probability above which ground counts as high, alone; None where no class is high.

    Returns
    -------
    list of dict
        ``slumps_ratio``: (share of the slump cells) / (share of the cells that labels say anything
        of), after Lee and Pradhan 2007; ``high_ratio``: the same of all cells in the high and very
        high classes against all cells. None where a share is of nothing.
    """
    rows = []
    for cut in cuts:
        if cut.factor not in tally.of_factor:
            continue
        table_of = tally.of_factor[cut.factor]
        cells = table_of.sum(axis=1)
        looked, slumps = tally.looked_factor[cut.factor], tally.slumps_factor[cut.factor]
        above = np.zeros_like(cells) if high is None else table_of[:, bins() > high[0]].sum(axis=1)
        for number, word in enumerate(cut.words):
            if not cells[number] and word == "missing":
                continue
            rows.append(
                {
                    "factor": cut.factor,
                    "class": word,
                    "cells": int(cells[number]),
                    "cells_looked_at": int(looked[number]),
                    "cells_of_slumps": int(slumps[number]),
                    "slumps_ratio": _ratio(slumps, looked, number),
                    "cells_high": int(above[number]),
                    "high_ratio": _ratio(above, cells, number),
                }
            )
    return rows


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64], at: int) -> float | None:
    if not part.sum() or not whole[at]:
        return None
    return float((part[at] / part.sum()) / (whole[at] / whole.sum()))


_OF_SAMPLES = (
    "positives", "negatives", "negatives_wanted", "negatives_drawn", "left_out", "by_site",
    "sites_without_negatives", "missing", "class_samples", "standardised_differences",
)  # fmt: skip


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Class the maps, overlay what moves, draw the figures and write susceptibility.json."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    sites = list(settings["map"])
    samples = table.read(files.samples)
    compared = json.loads(files.comparison.read_text(encoding="utf-8"))
    chosen = str(compared["map_model"])
    made_up = bool(settings["made_up"])
    progress(0.0, "natural breaks")
    drawn: dict[str, dict[str, Tally]] = {
        model: {
            site: Tally.read(files.tally(site, None if model == chosen else model))
            for site in sites
        }
        for model in (chosen, *settings["beside"])
    }
    wanted = int(settings["classes"])
    by_model: dict[str, dict[str, Any]] = {}
    for model, of in drawn.items():
        by_model[model] = _classes_of(
            model, of, wanted, held.read(files.held(model)).probability[compared["spatial"], 0],
            samples.labels, list(settings["test"]),
        )  # fmt: skip
    upper = by_model[chosen]["upper_probability"]
    cells: dict[str, list[int]] = {}
    for number, name in enumerate(sites):
        progress(0.1 + 0.4 * number / len(sites), f"classes of {name}")
        cells[name] = mapping.write_classes(
            files.probability(name),
            files.classes(name),
            upper,
            {
                "model": chosen,
                "classes": f"1 lowest to {len(upper)} highest, by natural breaks",
                "made_up": str(made_up).lower(),
            },
        ).tolist()
        if settings["beside"]:
            maps = [files.probability(name, None if m == chosen else m) for m in drawn]
            mapping.write_spread(
                maps,
                files.models_spread(name),
                {"models": ", ".join(drawn), "made_up": str(made_up).lower()},
            )
    for prefix in ("susceptibility-", "classes-"):
        large = of_maps(workspace, item.round, sites, prefix, coarse=True)
        for path, (parts, grid) in large.items():
            write_vrt(path, parts, grid)
    progress(0.6, "frequency ratios")
    total = _sum(drawn[chosen].values())
    cuts = cuts_of(samples, int(settings["chimerge_intervals"]), float(settings["chimerge_alpha"]))
    ratios = frequency_ratios(total, cuts, _high(upper))
    _write_ratios(files, ratios)
    moving = None
    if settings["deformation"] is not None:
        progress(0.65, "deformation points")
        moving = overlay(
            workspace.root / str(settings["deformation"]),
            {name: files.classes(name) for name in sites},
            class_words(len(upper)),
            int(settings["resamples"]),
            int(settings["seed"]),
        )
    progress(0.8, "figures")
    map_figures.draw_all(files, sites, by_model, chosen, ratios, moving, made_up)
    counts = {name: each.counts for name, each in drawn[chosen].items()}
    write_json(
        files.summary,
        {
            **compared,
            "made_up": made_up,
            "features": list(samples.feature_names),
            "factor_classes": {name: list(each) for name, each in samples.classes.items()},
            "aspect": "as sine (east positive) and cosine (north positive)",
            "label_rule": samples.facts["label_rule"],
            "n_positive": int((samples.labels == 1).sum()),
            "n_negative": int((samples.labels == 0).sum()),
            "n_slumps": samples.facts["n_slumps"],
            "buffer_m": samples.facts["buffer_m"],
            "samples": {key: samples.facts[key] for key in _OF_SAMPLES if key in samples.facts},
            "sites_learned_from": list(settings["learn"]),
            "sites_held_out": list(settings["test"]),
            "classes": {**by_model[chosen], "cells_by_site": cells},
            "classes_by_model": by_model,
            "frequency_ratios": ratios,
            "deformation": None if moving is None else moving.facts,
            **{
                f"cells_{key}": {name: each.get(of, 0) for name, each in counts.items()}
                for key, of in (
                    ("valid", "valid"), ("with_filled_factors", "filled"), ("outside", "outside")
                )
            },
            "cells_with_unseen_classes": _unseen(counts),
        },
    )  # fmt: skip
    progress(1.0, "done")
    return {"map_model": chosen, "classes": len(upper), "sites": len(sites)}


def _sum(tallies: Any) -> Tally:
    total = Tally.none()
    for each in tallies:
        total = total + each
    return total


def _high(upper: Sequence[float]) -> tuple[float] | None:
    """Return the probability above which the classes high and very high lie."""
    words = class_words(len(upper))
    named = [number for number, word in enumerate(words) if word in ("high", "very high")]
    first = named[0] if named else (len(upper) * 3 + 4) // 5
    return (float(upper[first - 1]),) if 0 < first < len(upper) else None


def _classes_of(
    model: str,
    of: Mapping[str, Tally],
    wanted: int,
    said: Floats,
    labels: NDArray[np.uint8],
    tested: Sequence[str],
) -> dict[str, Any]:
    """Return limits and shares of the classes of one model, over all its maps."""
    total = _sum(of.values())
    breaks, words = few_classes(total, wanted, f"the maps of {model}")
    slumps = (labels == 1) & np.isfinite(said)
    found = mapping.classify(said[slumps], breaks.upper)
    among = np.bincount(found - 1, minlength=len(breaks.upper))
    elsewhere = _sum(of[name] for name in tested if name in of)
    return {
        "upper_probability": list(breaks.upper),
        "names": list(class_words(len(breaks.upper))),
        "goodness_of_variance_fit": breaks.fit,
        "fewer_than_asked": words,
        "share_of_area": shares(total.area, breaks.upper),
        # By folds that kept the slump's ground apart; by the map where nothing was learned; and
        # by the map of ground that the model has seen, which flatters it.
        "share_of_slump_cells_out_of_fold": (among / max(1, among.sum())).tolist(),
        "share_of_slump_cells_held_out_sites": shares(elsewhere.slumps, breaks.upper),
        "slump_cells_held_out_sites": int(elsewhere.slumps.sum()),
        "share_of_slump_cells_by_the_map_flattering": shares(total.slumps, breaks.upper),
        "slump_cells_by_the_map": int(total.slumps.sum()),
    }


def _unseen(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    found = {
        name: {
            key.removeprefix("unseen "): value
            for key, value in sorted(each.items())
            if key.startswith("unseen ")
        }
        for name, each in counts.items()
    }
    return {name: each for name, each in found.items() if each}


def _write_ratios(files: Files, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    columns = (
        "factor", "class", "cells", "cells_looked_at", "cells_of_slumps", "slumps_ratio",
        "cells_high", "high_ratio",
    )  # fmt: skip
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(files.ratios, text.getvalue())
