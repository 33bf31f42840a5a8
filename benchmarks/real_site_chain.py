"""The same chain on a real site: export, labels, six runs, ensemble, map; scored on its test part.

    python benchmarks/real_site_chain.py [--data DIR] [--workspace DIR] [--json]

Data and windows are those of real_site_dndvi.py. Three parts of one 1.28 km square, 80 m apart:
they share weather, soil and event, so the figures say how the chain works on real pixels, not
how it would do elsewhere. The best threshold on -dNDVI, chosen on the training part, stands beside
the ensemble.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

import real_site_dndvi as site


def f1(found: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Return precision, recall and F1 of two masks.

    Examples
    --------
    >>> f1(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]))
    {'precision': 0.5, 'recall': 0.5, 'f1': 0.5}
    """
    hits = float(np.sum((found > 0) & (truth > 0)))
    claimed, there = float(np.sum(found > 0)), float(np.sum(truth > 0))
    return {
        "precision": hits / claimed if claimed else 0.0,
        "recall": hits / there if there else 0.0,
        "f1": 2 * hits / (claimed + there) if claimed + there else 0.0,
    }


def best_threshold(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the threshold on a score with the highest F1."""
    known = np.isfinite(score)
    steps = np.quantile(score[known], np.linspace(0.5, 1.0, 501))
    return float(max(steps, key=lambda step: f1(score[known] >= step, truth[known])["f1"]))


def measure(folder: Path, data: Path) -> dict[str, Any]:
    """Run the chain in an empty folder up to the maps and return the scores."""
    from thawslump.pipeline import run
    from thawslump.progress import chosen
    from thawslump.raster import read, read_float
    from thawslump.workspace import Workspace

    site.make_workspace(folder, data)
    for path in (folder / "areas").glob("*.yaml"):
        path.unlink()  # they cover the parts that are trained and tested on
    workspace = Workspace(folder)
    begun = time.monotonic()
    run(workspace, until="predict", reporter=chosen(json_lines=False, rounds=1))
    seconds = time.monotonic() - begun
    record = json.loads((workspace.models(1) / "ensemble" / "metrics.json").read_text())
    truth = {
        part: read(workspace.labels(1, f"emilia-{part}")).array[0] == 1
        for part in ("train", "validation", "test")
    }
    change = {part: -read_float(workspace.stack(f"emilia-{part}")).band("dNDVI") for part in truth}
    chance = read_float(workspace.maps(1) / "emilia-test.tif").band("probability")
    step = best_threshold(change["train"], truth["train"])
    return {
        "seconds": round(seconds),
        "members": [member["run"] for member in record["members"]],
        "threshold": record["threshold"],
        "ensemble on test": f1(chance >= record["threshold"], truth["test"])
        | {"auc": site.auc(chance, truth["test"])},
        f"-dNDVI >= {step:.3f} on test": f1(change["test"] >= step, truth["test"])
        | {"auc": site.auc(change["test"], truth["test"])},
        "runs on validation": {row["run"]: row["f1"] for row in record["runs"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="folder of the cube")
    parser.add_argument("--workspace", type=Path, default=None, help="keep the workspace here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = options.data or site.data_folder() / "sen12landslides_italy4120"
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.workspace or Path(temporary), data)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}: " + ", ".join(f"{key} {number:.3f}" for key, number in value.items()))
        else:
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
