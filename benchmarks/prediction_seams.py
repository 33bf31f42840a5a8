"""Seams, borders, speed and memory of prediction by windows, against prediction in one piece.

    python benchmarks/prediction_seams.py [--workspace DIR] [--site NAME]

With --workspace, the ensemble of round 1 and the stack of a site (the test site where none is
named); else models with random weights on made-up smooth bands, which is the harder case: nothing
in them has learned to ignore the borders of a window.

- difference: largest and mean absolute difference of the probability from one window over all;
- seam: mean step of that difference across the lines where windows of a tiling without overlap
  meet, over its mean step elsewhere (1 is invisible);
- border: largest difference on the outermost ring of pixels;
- memory: what mapping 1,024 x 1,024, 16,384 x 1,024, 1,024 x 16,384 and 32,768 x 1,024 pixels adds
  to a process, models loaded: in blocks of 1,024, joined. The first does not fill GDAL's cache of
  64 MiB; from the second on, nothing may grow.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _nets import random_members
from numpy.typing import NDArray
from scipy import ndimage

from thawslump.files import write_json

Floats = NDArray[np.float32]
TILINGS = ((128, 0), (128, 32), (256, 0), (256, 32), (256, 64))
SIZES = ((1024, 1024), (16384, 1024), (1024, 16384), (32768, 1024))
BLOCK = 1024  # side of a block in pixels; 8192 where nothing is set


def made_up(rows: int, columns: int, bands: int, seed: int = 0) -> Floats:
    """Return smooth bands with mean 0 and deviation 1, and one hole."""
    random = np.random.default_rng(seed)
    array = np.stack(
        [ndimage.gaussian_filter(random.normal(size=(rows, columns)), 2 + i) for i in range(bands)]
    )
    array /= array.std(axis=(1, 2), keepdims=True)
    array[:, rows // 3 : rows // 3 + 20, columns // 2 : columns // 2 + 20] = np.nan
    return array.astype("float32")


def mapped(rows: int, columns: int, folder: Path) -> float:
    """Map a made-up raster as the step `predict` does; return what it adds to memory, MiB.

    In blocks where the raster is longer than one, and these joined.
    """
    import threading

    import psutil
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from trainer.segmentation.blend import blocks
    from trainer.segmentation.maps import Rows, join
    from trainer.segmentation.predict import predict_strips
    from trainer.segmentation.train import reproducible

    piece = made_up(256, 256, 2)
    members = random_members(2, 1)
    grid = GeoBox((rows, columns), Affine(10, 0, 5e5, 0, -10, 7.9e6), "EPSG:32652")
    with reproducible(0, 1):
        # What torch and GDAL take once and for all does not count.
        small = np.tile(piece, (1, 2, 2))
        for _ in predict_strips(
            members, lambda t, b, l, r: small[:, t:b, l:r], (512, 512), window=256, overlap=32
        ):
            pass  # fmt: skip
        process = psutil.Process()
        before = most = process.memory_info().rss
        ended = threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.01):
                most = max(most, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        files = []
        for top, left, bottom, right in blocks((rows, columns), BLOCK):

            def read(t: int, b: int, l: int, r: int, top: int = top, left: int = left) -> Floats:
                y, x = np.arange(t + top, b + top) % 256, np.arange(l + left, r + left) % 256
                return piece[:, y[:, None], x]

            shape = (bottom - top, right - left)
            part = GeoBox(shape, grid.transform @ Affine.translation(left, top), grid.crs)
            files.append(folder / f"{top}-{left}.tif")
            with Rows(files[-1], part) as kept:
                for strip in predict_strips(members, read, shape, window=256, overlap=32):
                    kept.add(strip)
                kept.finish({}, block=True)
        join(folder / "map.tif", files, grid, {})
        ended.set()
        watcher.join()
    return (most - before) / 2**20


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
    parser.add_argument("--map", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
                        help="only map a raster of this size; print the memory")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.map:
        with tempfile.TemporaryDirectory() as folder:
            print(mapped(*arguments.map, Path(folder)))
        return 0

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
        f"{high} x {wide}": float(
            subprocess.run(
                [sys.executable, __file__, "--map", str(high), str(wide)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for high, wide in SIZES
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
    print("memory added, MiB: " + ", ".join(f"{k} {v:.0f}" for k, v in memory.items()))
    _, filled, *others = memory.values()
    met = max(others) < 1.25 * filled
    print(f"{'met' if met else 'MISSED'}: memory grows with neither rows nor columns")
    write_json(
        Path(__file__).parent / "results" / "prediction_seams.json",
        {"made_up": arguments.workspace is None, "tilings": table, "added_mib": memory},
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
