"""Step `susceptibility`: classes that all maps share, what lies in them, and the summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from thawslump.files import write_json
from thawslump.mosaic import of_maps, write_vrt
from trainer.susceptibility import held, mapping, table
from trainer.susceptibility.breaks import natural_breaks
from trainer.susceptibility.files import Files

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["run"]


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Class the maps and write susceptibility.json."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    sites = list(settings["map"])
    samples = table.read(files.samples)
    compared = json.loads(files.comparison.read_text(encoding="utf-8"))
    chosen = str(compared["map_model"])
    progress(0.0, "natural breaks")
    counted = {
        name: json.loads(files.histogram(name).read_text(encoding="utf-8")) for name in sites
    }
    histogram = np.sum([each["probability"] for each in counted.values()], axis=0)
    steps = np.arange(mapping.LEVELS + 1) / mapping.LEVELS
    breaks = natural_breaks(steps, histogram, int(settings["classes"]))
    cells: dict[str, list[int]] = {}
    for number, name in enumerate(sites):
        progress(0.2 + 0.7 * number / len(sites), f"classes of {name}")
        cells[name] = mapping.write_classes(
            files.probability(name),
            files.classes(name),
            breaks.upper,
            {
                "model": chosen,
                "classes": f"1 lowest to {len(breaks.upper)} highest, by natural breaks",
                "made_up": str(bool(settings["made_up"])).lower(),
            },
        ).tolist()
    for prefix in ("susceptibility-", "classes-"):
        large = of_maps(workspace, item.round, sites, prefix, coarse=True)
        for path, (parts, grid) in large.items():
            write_vrt(path, parts, grid)
    said = held.read(files.held(chosen)).probability[compared["spatial"], 0]
    slumps = (samples.labels == 1) & np.isfinite(said)
    area = np.sum(list(cells.values()), axis=0)
    found = mapping.classify(said[slumps], breaks.upper)
    among = np.bincount(found - 1, minlength=len(breaks.upper))
    write_json(
        files.summary,
        {
            **compared,
            "made_up": bool(settings["made_up"]),
            "features": list(samples.feature_names),
            "factor_classes": {name: list(each) for name, each in samples.classes.items()},
            "aspect": "as sine (east positive) and cosine (north positive)",
            "label_rule": samples.facts["label_rule"],
            "n_positive": int((samples.labels == 1).sum()),
            "n_negative": int((samples.labels == 0).sum()),
            "n_slumps": samples.facts["n_slumps"],
            "buffer_m": samples.facts["buffer_m"],
            "sites_learned_from": list(settings["learn"]),
            "sites_held_out": list(settings["test"]),
            "classes": {
                "upper_probability": list(breaks.upper),
                "goodness_of_variance_fit": breaks.fit,
                "share_of_area": (area / max(1, area.sum())).tolist(),
                "share_of_slump_cells_out_of_fold": (among / max(1, among.sum())).tolist(),
                "cells_by_site": cells,
            },
            "cells_with_filled_factors": {
                name: each["cells"]["filled"] for name, each in counted.items()
            },
            "cells_outside": {name: each["cells"]["outside"] for name, each in counted.items()},
            "cells_with_unseen_classes": _some(counted),
        },
    )
    progress(1.0, "done")
    return {"map_model": chosen, "classes": len(breaks.upper), "sites": len(sites)}


def _some(counted: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {
        name: each["unseen_classes"] for name, each in counted.items() if each["unseen_classes"]
    }
