"""Seams, borders, speed and memory of prediction by windows, against prediction in one piece.

    python benchmarks/prediction_seams.py [--workspace DIR] [--site NAME]

With --workspace, the ensemble of round 1 and the stack of a site (the test site where none is
named); else models with random weights on made-up smooth bands, which is the harder case: nothing
in them has learned to ignore the borders of a window.

- difference: largest and mean absolute difference of the probability from one window over all;
- seam: mean step of that difference across the lines where windows of a tiling without overlap
  meet, over its mean step elsewhere (1 is invisible);
- border: largest difference on the outermost ring of pixels;
- memory: what mapping 1,024 and 16,384 rows of 1,024 pixels adds to a process, models loaded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy import ndimage

from thawslump.files import write_json

Floats = NDArray[np.float32]
TILINGS = ((128, 0), (128, 32), (256, 0), (256, 32), (256, 64))
MAPPED = """
import sys
import benchmarks.prediction_seams as b
b.map_rows(int(sys.argv[1]))
"""


def random_members(bands: int) -> list[Any]:
    """Return three decoders with random weights, their batch norms set by one batch of noise."""
    import torch

    from trainer.segmentation.models import build
    from trainer.segmentation.predict import Member

    found = []
    for seed, architecture in enumerate(("unet", "linknet", "unetplusplus")):
        torch.manual_seed(seed)
        model = build(architecture, "tu-regnetx_002", bands, 3)
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(4, bands, 128, 128))
        place = tuple(range(bands))
        found.append(Member(architecture, model.eval(), place, (0.0,) * bands, (1.0,) * bands))
    return found


def made_up(rows: int, columns: int, bands: int, seed: int = 0) -> Floats:
    """Return smooth bands with mean 0 and deviation 1, and one hole."""
    random = np.random.default_rng(seed)
    array = np.stack(
        [ndimage.gaussian_filter(random.normal(size=(rows, columns)), 2 + i) for i in range(bands)]
    )
    array /= array.std(axis=(1, 2), keepdims=True)
    array[:, rows // 3 : rows // 3 + 20, columns // 2 : columns // 2 + 20] = np.nan
    return array.astype("float32")


def map_rows(rows: int) -> None:
    """Map a made-up raster of many rows, strip by strip, as the step `predict` does."""
    import tempfile

    from affine import Affine
    from odc.geo.geobox import GeoBox

    from trainer.segmentation.predict import predict_strips, write_strips
    from trainer.segmentation.train import reproducible

    piece = made_up(256, 1024, 2)
    members = random_members(2)[:1]
    process = psutil.Process()
    before, most = process.memory_info().rss, 0

    def read(first: int, last: int) -> Floats:
        nonlocal most
        most = max(most, process.memory_info().rss - before)
        return piece[:, np.arange(first, last) % 256]

    grid = GeoBox((rows, 1024), Affine(10, 0, 5e5, 0, -10, 7.9e6), "EPSG:32652")
    with tempfile.TemporaryDirectory() as folder, reproducible(0, 1):
        strips = predict_strips(members, read, (rows, 1024), window=256, overlap=32)
        write_strips(Path(folder) / "map.tif", strips, grid, {})
        most = max(most, process.memory_info().rss - before)
    print(most / 2**20)


def seam(difference: Floats, step: int) -> float:
    """Return the mean step of a difference across tile borders over that elsewhere."""
    down, right = abs(np.diff(difference, axis=0)), abs(np.diff(difference, axis=1))
    rows = np.arange(1, difference.shape[0]) % step == 0
    columns = np.arange(1, difference.shape[1]) % step == 0
    on = np.concatenate([down[rows].ravel(), right[:, columns].ravel()])
    off = np.concatenate([down[~rows].ravel(), right[:, ~columns].ravel()])
    return float(np.nanmean(on) / max(float(np.nanmean(off)), 1e-12))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--site")
    arguments = parser.parse_args()

    from trainer.segmentation.predict import predict_array
    from trainer.segmentation.train import reproducible

    if arguments.workspace:
        from thawslump.workspace import Workspace
        from trainer.chips import read_bands
        from trainer.segmentation.ensemble import load_members
        from trainer.steps import _ensemble_record

        workspace = Workspace(arguments.workspace)
        folder = workspace.models(1) / "ensemble"
        names = [each["run"] for each in _ensemble_record(folder / "metrics.json")["members"]]
        bands, members = load_members(folder / "item.json", names)
        tests = [name for name, site in workspace.sites.items() if site.role == "test"]
        array = read_bands(workspace.stack(arguments.site or tests[0]), bands)
    else:
        members, array = random_members(3), made_up(704, 640, 3)

    rows, columns = array.shape[1:]
    whole_window = -(-max(rows, columns) // 32) * 32
    with reproducible(0, 1):
        begun = time.process_time()
        whole = predict_array(members, array, window=whole_window, overlap=0).probability
        seconds = time.process_time() - begun
        table = [
            {"window": whole_window, "overlap": 0, "mpx_per_second": rows * columns / seconds / 1e6}
        ]
        for window, overlap in TILINGS:
            begun = time.process_time()
            found = predict_array(members, array, window=window, overlap=overlap).probability
            seconds = time.process_time() - begun
            difference = found - whole
            ring = np.concatenate(
                [difference[0], difference[-1], difference[:, 0], difference[:, -1]]
            )
            table.append(
                {
                    "window": window,
                    "overlap": overlap,
                    "largest": float(np.nanmax(abs(difference))),
                    "mean": float(np.nanmean(abs(difference))),
                    "seam": seam(difference, window - overlap),
                    "border": float(np.nanmax(abs(ring))),
                    "mpx_per_second": rows * columns / seconds / 1e6,
                }
            )
            assert (np.isnan(found) == np.isnan(whole)).all(), "nodata moved"
    memory = {
        str(size): float(
            subprocess.run(
                [sys.executable, "-c", MAPPED, str(size)],
                cwd=Path(__file__).parents[1],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for size in (1024, 16384)
    }
    print(f"{rows} x {columns} pixels, {len(members)} members, one thread")
    print("window overlap   largest      mean    seam   border   Mpx/s")
    for row in table:
        print(
            f"{row['window']:6} {row['overlap']:7} "
            + (
                f"{row['largest']:9.4f} {row['mean']:9.6f} {row['seam']:7.2f} {row['border']:8.4f}"
                if "largest" in row
                else f"{'-':>9} {'-':>9} {'-':>7} {'-':>8}"
            )
            + f" {row['mpx_per_second']:7.3f}"
        )
    print(f"memory added, MiB by rows: {memory}")
    growth = memory["16384"] / memory["1024"]
    met = growth < 1.1
    print(f"{'met' if met else 'MISSED'}: memory does not grow with the height ({growth:.3f})")
    write_json(
        Path(__file__).parent / "results" / "prediction_seams.json",
        {"made_up": arguments.workspace is None, "tilings": table, "added_mib_by_rows": memory},
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
