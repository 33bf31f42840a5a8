"""A stacked susceptibility map over a raster larger than memory, through the steps as they are.

    python benchmarks/susceptibility_map_large.py [--side 10000] [--workers 2] [--folder DIR]

Made-up factors (14 bands, float32, side x side cells) are written as a tiled GeoTIFF by strips;
CNN, MLP, SVR and a random forest are stacked with a random forest above (He et al. 2024) and fitted
to made-up samples, with few epochs, since the time of an answer does not depend on them. Then the
items of `susceptibility-map` run on the executor as `thawslump susceptibility map` runs them, and
`susceptibility-join` puts the parts together. Prints JSON: cells per second by the clock and per
core, and the largest memory of a worker and of all processes together (sum of resident sets,
looked at twice a second).

1e8 cells take about 6 GB of disk. What is there already (factors, model, parts) is used again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

FACTORS = tuple(f"f{number:02d}" for number in range(1, 15))
ROWS = 512


def made_up(side: int, rows: slice, seed: int = 0) -> np.ndarray:
    """Return made-up factors of some rows, (14, rows, side): smooth ground with a fine grain."""
    found = np.empty((len(FACTORS), rows.stop - rows.start, side), np.float32)
    y, x = np.arange(rows.start, rows.stop)[:, None] / 97.0, np.arange(side)[None] / 83.0
    dice = np.random.default_rng([seed, rows.start])
    for number in range(len(FACTORS)):
        wave = np.random.default_rng([seed, 10**6, number]).uniform(0.2, 1.4, (4, 3))
        smooth = sum(np.sin(a * y + b * x + 7 * c) for a, b, c in wave)
        grain = dice.normal(scale=0.3, size=smooth.shape)
        # Sensors have steps, too; without them nothing would compress.
        found[number] = np.round((smooth + grain) * 64) / 64
    found[3, :5, :5] = np.nan
    return found


def write_factors(path: Path, side: int) -> float:
    """Write the raster by strips; return the seconds that took."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    begun = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": len(FACTORS),
        "dtype": "float32", "crs": "EPSG:32646", "transform": Affine(30, 0, 3e5, 0, -30, 4e6),
        "tiled": True, "blockxsize": ROWS, "blockysize": ROWS, "compress": "ZSTD", "predictor": 3,
        "zstd_level": 1, "nodata": float("nan"), "BIGTIFF": "YES",
    }  # fmt: skip
    part = path.with_suffix(".part")
    with (
        rasterio.Env(GDAL_CACHEMAX=256, GDAL_NUM_THREADS="ALL_CPUS"),
        rasterio.open(part, "w", **profile) as raster,
    ):
        raster.descriptions = FACTORS
        for first in range(0, side, ROWS):
            rows = slice(first, min(first + ROWS, side))
            raster.write(made_up(side, rows), window=Window(0, first, side, rows.stop - first))
    part.rename(path)
    return time.perf_counter() - begun


def samples_of(side: int, count: int) -> Any:
    """Return made-up samples of the same ground."""
    from trainer.susceptibility.table import Samples

    dice = np.random.default_rng(1)
    strips = [made_up(side, slice(first, first + 8)) for first in range(0, side - 8, side // 12)]
    cells = np.concatenate([strip.reshape(len(FACTORS), -1) for strip in strips], axis=1)
    cells = cells[:, np.isfinite(cells).all(axis=0)]
    cells = cells[:, dice.choice(cells.shape[1], count, replace=False)]
    signal = cells[0] * cells[1] + cells[2] - 0.5 * cells[3] ** 2 + cells[5]
    labels = (signal + dice.normal(size=count) > np.median(signal)).astype(np.uint8)
    places = dice.uniform(0, side * 30.0, (count, 2))
    return Samples(
        factors=dict(zip(FACTORS, cells, strict=True)),
        labels=labels,
        places=places,
        sites=np.zeros(count, np.int64),
        site_names=("large",),
        slumps=np.where(labels == 1, np.arange(count), -1),
        lonlat=np.tile([92.0, 35.0], (count, 1)),
        facts={"label_rule": "made up", "buffer_m": 0.0, "n_slumps": int(labels.sum())},
    )


def workspace_of(root: Path, device: str) -> Any:
    """Return a workspace with one made-up site."""
    from thawslump.workspace import Workspace
    from trainer.susceptibility.config import SusceptibilityConfig

    workspace = Workspace(root)
    workspace.__dict__["sites"] = {"large": SimpleNamespace(role="train", made_up=True)}
    config = SusceptibilityConfig(
        factors=FACTORS, models=("stacking",), bases=("cnn", "mlp", "svr", "forest"),
        map_model="stacking", device=device,
    )  # fmt: skip
    workspace.__dict__["config"] = SimpleNamespace(susceptibility=config)
    return workspace


def prepare(workspace: Any, side: int, count: int, epochs: int) -> dict[str, Any]:
    """Write what the steps before the map would have left; return how long it took."""
    from thawslump import raster
    from thawslump.files import write_json
    from trainer.susceptibility import table
    from trainer.susceptibility.applicability import Applicability
    from trainer.susceptibility.ensembles import fit_on_ground
    from trainer.susceptibility.files import Files
    from trainer.susceptibility.persistence import save_model
    from trainer.susceptibility.registry import build

    files, facts = Files(workspace, 1), {}
    path = workspace.factors("large")
    if not path.exists():
        facts["seconds_writing_factors"] = round(write_factors(path, side), 1)
    grid = raster.grid_of(path)
    if grid.shape != (side, side):
        raise SystemExit(f"{path} has {tuple(grid.shape)} cells; give another --folder.")
    samples = samples_of(side, count)
    if not files.model("stacking").exists():
        labels = np.zeros((1, 64, 64), np.uint8)
        labels[0, 10:20, 10:20] = 1
        from odc.geo.geobox import GeoBox

        corner = GeoBox((64, 64), grid.affine, grid.crs)
        raster.write_cog(
            workspace.labels(1, "large"), labels, corner, ("label",), nodata=None, categorical=True
        )
        table.write(files.samples, samples)
        model = build("stacking", bases=("cnn", "mlp", "svr", "forest"), device="auto")
        for name in ("cnn", "mlp"):
            model.bases[name].set_params(model__epochs=epochs)
        begun = time.perf_counter()
        blocks = samples.blocks(side * 30.0 / 8)
        fit_on_ground(model, samples.features, samples.labels, blocks)
        facts["seconds_fitting"] = round(time.perf_counter() - begun, 1)
        files.model("stacking").parent.mkdir(parents=True, exist_ok=True)
        Applicability.fit(samples.features, blocks).write(files.applicability)
        write_json(files.comparison, {"map_model": "stacking", "spatial": "blocked"})
        save_model(files.model("stacking"), model, samples.feature_names)
    facts["factors_gb"] = round(path.stat().st_size / 1e9, 2)
    return facts


class Memory:
    """The largest resident sets of processes, looked at twice a second."""

    def __init__(self) -> None:
        self.one, self.all = 0.0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            sizes = [_resident(pid) for pid in _family(os.getpid())]
            self.one, self.all = max(self.one, *sizes), max(self.all, sum(sizes))


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += _family(int(child))
        except OSError:  # it ended meanwhile
            continue
    return found


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def run(items: list[Any], workspace: Any, workers: int) -> tuple[float, float, Memory]:
    """Run items that are left on processes; return wall and CPU seconds, and the memory."""
    from thawslump.config import ExecutorConfig
    from thawslump.executor import running
    from thawslump.pipeline import work

    todo = [item for item in items if not all(path.exists() for path in item.outputs)]
    before, begun = os.times(), time.perf_counter()
    shown = time.perf_counter()
    with (
        Memory() as memory,
        running(ExecutorConfig(kind="processes", workers=workers), lambda _: None) as executor,
    ):
        waiting = [executor.submit(work, item, workspace) for item in todo]
        for number, done in enumerate(concurrent.futures.as_completed(waiting), start=1):
            done.result()
            if time.perf_counter() - shown > 60:
                shown = time.perf_counter()
                print(f"{number} of {len(todo)} parts, {memory.all:.2f} GiB", flush=True)
    wall, after = time.perf_counter() - begun, os.times()
    used = sum(after[:4]) - sum(before[:4])
    return wall, used, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=10_000, help="cells along an edge")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/susceptibility_map_large"))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()

    from trainer.susceptibility.files import Files
    from trainer.susceptibility.steps import plan_join, plan_map

    workspace = workspace_of(options.folder, options.device)
    # In a process of its own: what fitting needs is not counted to the map.
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ) as apart:
        given = (workspace, options.side, options.samples, options.epochs)
        facts = apart.submit(prepare, *given).result()
    items = plan_map(workspace, 1)
    left = sum(not all(path.exists() for path in item.outputs) for item in items)
    wall, used, memory = run(items, workspace, options.workers)
    cells = options.side**2 * left // len(items)
    report: dict[str, Any] = {
        "cells": options.side**2, "factors": len(FACTORS),
        "model": "stacking of cnn, mlp, svr, forest; forest above",
        "cores": os.cpu_count(), "workers": options.workers,
        "load": [round(value, 1) for value in os.getloadavg()],
        **facts,
        "parts": len(items), "parts_drawn_now": left,
        "map_seconds": round(wall, 1), "map_core_seconds": round(used, 1),
        "cells_per_second": round(cells / wall), "cells_per_core_second": round(cells / used),
        "microseconds_per_cell_and_core": round(1e6 * used / max(1, cells), 2),
        "peak_gib_of_a_process": round(memory.one, 2),
        "peak_gib_of_all_processes": round(memory.all, 2),
        "hours_for_1e8_cells": round(1e8 / max(1e-9, cells / wall) / 3600, 2),
    }  # fmt: skip
    if joins := plan_join(workspace, 1):
        wall, used, memory = run(joins, workspace, 1)
        report |= {
            "join_seconds": round(wall, 1),
            "join_peak_gib_of_all_processes": round(memory.all, 2),
        }
    path = Files(workspace, 1).probability("large")
    report["map_gb"] = round(path.stat().st_size / 1e9, 3)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
