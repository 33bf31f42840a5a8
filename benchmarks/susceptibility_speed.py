"""Speed of the susceptibility kernels, each beside the library that is usually taken for it.

    python benchmarks/susceptibility_speed.py [--only radial] [--cells 20000]

Both sides of a section run in turn on the same cores, the best of several rounds counts, and the
results are compared before the times are. Prints JSON.

``radial``: values of support vectors (14 factors, radial kernel) in batched matrix form against
`predict` of scikit-learn (libsvm), SVR and SVC. Time is that of the process on one thread (CPU
seconds), and by the clock with a thread per core; on a GPU where torch finds one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {}


def section(function: Callable[[argparse.Namespace], dict[str, Any]]) -> Any:
    """Add a section under the name of its function."""
    SECTIONS[function.__name__] = function
    return function


def best(
    work: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Return the least time of several rounds, and the result of the last."""
    least, result = np.inf, None
    for _ in range(rounds):
        begun = clock()
        result = work()
        least = min(least, clock() - begun)
    return float(least), result


@section
def radial(options: argparse.Namespace) -> dict[str, Any]:
    """Radial kernels of support vectors: matrix products against libsvm."""
    import torch
    from sklearn.svm import SVC, SVR
    from threadpoolctl import threadpool_limits

    from trainer.susceptibility.kernels import RadialSum

    dice = np.random.default_rng(0)
    x = dice.normal(size=(options.samples, 14))
    y = (x[:, 0] * x[:, 1] + dice.normal(size=options.samples) > 0).astype(int)
    cells = dice.normal(size=(options.cells, 14))
    found: dict[str, Any] = {"cells": options.cells, "factors": 14}
    for name, model in (("svr", SVR(C=1, epsilon=0.1)), ("svc", SVC(C=1))):
        model.fit(x, y)
        theirs = model.predict if name == "svr" else model.decision_function
        ours = RadialSum.of(model)
        ours(cells[:256])  # what is prepared once is prepared
        with threadpool_limits(1):
            slow, expected = best(lambda: theirs(cells), 3, time.process_time)  # noqa: B023
            fast, values = best(lambda: ours(cells), 5, time.process_time)  # noqa: B023
            double, exact = best(lambda: ours(cells, 0.0), 3, time.process_time)  # noqa: B023
        clock, _ = best(lambda: ours(cells, threads=os.cpu_count() or 1), 5)  # noqa: B023
        row = {
            "support_vectors": len(ours.weights),
            "sklearn_cells_per_second": round(options.cells / slow),
            "ours_cells_per_second": round(options.cells / fast),
            "times_faster_one_thread": round(slow / fast, 1),
            "times_faster_double_precision": round(slow / double, 1),
            "ours_cells_per_second_by_the_clock": round(options.cells / clock),
            "largest_difference": float(np.abs(values - expected).max()),
            "largest_difference_double_precision": float(np.abs(exact - expected).max()),
        }
        if torch.cuda.is_available():
            many = np.tile(cells, (max(1, 2_000_000 // options.cells), 1))
            ours(many[:8192], device="cuda")
            quick, on_gpu = best(lambda: ours(many, device="cuda"), 3)  # noqa: B023
            row["gpu_cells_per_second"] = round(len(many) / quick)
            row["gpu_times_faster"] = round(slow / options.cells * len(many) / quick, 1)
            row["gpu_largest_difference"] = float(np.abs(on_gpu[: options.cells] - expected).max())
        found[name] = row
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(SECTIONS), help="one section")
    parser.add_argument("--cells", type=int, default=20_000, help="rows of `radial`")
    parser.add_argument("--samples", type=int, default=4_000, help="training samples of `radial`")
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(SECTIONS)
    report: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
    for name in chosen:
        report[name] = SECTIONS[name](options)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
