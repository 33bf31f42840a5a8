"""What the made-up valley holds: its invariants, how hard it is, what it costs to make.

    python benchmarks/valley_invariants.py [--seeds 1 2 3] [--rows 512] [--cols 1024]
                                           [--pictures DIR] [--build]

For each seed, straight from the kernels (no emulator, no export):

- slopes, the exponent of the areas, equivalent looks of the speckle, the season of NDVI, and the
  change of greenness inside slumps, in every look-alike and elsewhere;
- the best F1 that any threshold on one band of the change stack reaches, chosen on the very pixels
  it is scored on, and a forest of single pixels that learns on the training part and is scored on
  the test part.

With `--build`, the whole catalogue is written and time, memory and size are printed. With
`--pictures`, true colour of both years, change of greenness, VV and the truth are drawn.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gee.valley import PRE, build, landcover, optical, place, radar, scenes, slumps, terrain
from gee.valley.landscape import Landscape, make
from thawslump.vector import rasterize
from trainer.baselines import best_threshold, f1_score, fit_pixel_forest

Floats = NDArray[np.float32]
CLOUDED = [optical.SCL[n] for n in ("no data", "shadow", "cloud medium", "cloud high", "cirrus")]
BANDS = ("preVV", "postVV", "dVV", "preVH", "postVH", "dVH", "slope", "dNDVI")


def greenest(land: Landscape) -> dict[int, tuple[Floats, Floats]]:
    """Return maximum NDVI and the colours of that date, by year; NaN where never seen clear."""
    found: dict[int, tuple[Floats, Floats]] = {}
    views = scenes.Scenes(land)
    for each in scenes.optical_passes(land.seed):
        window = PRE if each.when.year == place.PRE_YEAR else place.POST
        if not window[0] <= each.when.date() < window[1]:
            continue
        bands, valid, _ = views.optical(each)
        red, nir = (bands[name].astype(np.float32) for name in ("B4", "B8"))
        shape = red.shape
        classes = np.repeat(np.repeat(bands["SCL"], 2, axis=0), 2, axis=1)[: shape[0], : shape[1]]
        seen = ~np.isin(classes, [*CLOUDED, optical.SCL["snow"]])
        seen &= True if valid is None else valid
        index = np.where(seen, optical.ndvi(red, nir), -np.inf).astype(np.float32)
        colour = np.stack([bands[name] for name in ("B4", "B3", "B2")]).astype(np.float32)
        if each.when.year in found:
            best, colours = found[each.when.year]
            better = index > best
            index = np.where(better, index, best)
            colour = np.where(better, colour, colours)
        found[each.when.year] = (index, colour)
    return {
        year: (np.where(np.isfinite(index), index, np.nan).astype(np.float32), colour)
        for year, (index, colour) in found.items()
    }


def stack(land: Landscape) -> tuple[Floats, dict[int, tuple[Floats, Floats]], Floats]:
    """Return the change stack (band, y, x), the optical composites, one VV scene."""
    views = scenes.Scenes(land)
    series: dict[int, list[Floats]] = {}
    for each, scene in views.radar_lazy():
        if not each.ascending:
            taken = scene()
            power = 10.0 ** (np.stack([taken["VV"], taken["VH"]]).astype(np.float32) / 10.0)
            series.setdefault(each.when.year, []).append(power.astype(np.float32))
    dem = terrain.relax(land.dem, 10.0, 12.0)
    light = radar.illuminate(dem, 10.0, views.geometry(False), *land.frame.centres())
    flat = np.cos(np.radians(views.geometry(False).incidence))
    correction = 10.0 * np.log10(np.maximum(light.volume[land.inner], 0.02) / flat)
    level = {
        year: 10.0 * np.log10(np.median(np.stack(powers), axis=0)) - correction
        for year, powers in series.items()
    }
    pre, post = level[place.PRE_YEAR], level[place.POST_YEAR]
    optics = greenest(land)
    change = optics[place.POST_YEAR][0] - optics[place.PRE_YEAR][0]
    slope = terrain.slope_degrees(dem, 10.0)[land.inner]
    bands = (pre[0], post[0], post[0] - pre[0], pre[1], post[1], post[1] - pre[1], slope, change)
    return np.stack(bands).astype(np.float32), optics, pre[0].astype(np.float32)


def looks(land: Landscape) -> float:
    """Return the looks measured on two scenes of one summer: var(ln I1 - ln I2) = 2 trigamma(L)."""
    from scipy import optimize, special

    views = scenes.Scenes(land)
    pair: list[Floats] = []
    for each, scene in views.radar_lazy():
        if each.when.year == place.PRE_YEAR and not each.ascending and each.when.month >= 7:
            pair.append(scene()["VV"].astype(np.float32))
            if len(pair) == 2:
                break
    dry = ~(land.river | land.lake)[land.inner] & (land.pre.melt[land.inner] < 175)
    spread = float(np.var((pair[0] - pair[1])[dry] * np.log(10.0) / 10.0))
    return float(optimize.brentq(lambda x: 2 * special.polygamma(1, x) - spread, 0.5, 50))


def report(seed: int, shape: tuple[int, int], pictures: Path | None) -> dict[str, Any]:
    """Print one valley; return the scores."""
    start = time.perf_counter()
    land = make(seed, shape)
    made = time.perf_counter() - start
    frame = scenes.Scenes(land).frame
    truth = rasterize([s.outline for s in land.slumps], frame.geobox)
    windows = place.site_windows(shape)
    print(f"\nseed {seed}, {shape[0]} x {shape[1]} px, landscape in {made:.1f} s (all made up)")
    slope = terrain.slope_degrees(land.ground, 10.0)[land.inner]
    quantiles = ", ".join(f"{q:.1f}" for q in np.percentile(slope, [5, 25, 50, 75, 95, 99]))
    print(f"  slope, 5 25 50 75 95 99 %: {quantiles} degrees")
    fitted, error = slumps.fit_exponent([s.area for s in land.slumps])
    hectares = sum(s.area for s in land.slumps) / 1e4
    print(
        f"  {len(land.slumps)} slumps, {hectares:.0f} ha, {truth.mean():.1%} of the ground; "
        f"exponent {fitted:.2f} +- {error:.2f} (made with {slumps.EXPONENT}); "
        f"{len(land.scars)} old scars"
    )
    centres = [s.outline.centroid for s in land.slumps]
    counts = {}
    for name, (r0, r1, c0, c1) in windows.items():
        rows = [(frame.top - p.y) / 10 for p in centres]
        cols = [(p.x - frame.left) / 10 for p in centres]
        counts[name] = sum(r0 <= r < r1 and c0 <= c < c1 for r, c in zip(rows, cols, strict=True))
    print(f"  slumps by part: {counts}")
    print(f"  equivalent looks {looks(land):.2f} (made with {radar.LOOKS})")
    bands, optics, vv = stack(land)
    change = bands[7]
    kinds = land.distractors[land.inner]
    near = rasterize([s.outline.buffer(30) for s in land.slumps], frame.geobox)
    calm = (near == 0) & (kinds == 0) & np.isfinite(change)
    for name, where in (
        ("slumps", truth == 1),
        *((k, (kinds == c) & (truth == 0)) for k, c in landcover.DISTRACTORS.items()),
        ("elsewhere", calm),
    ):
        values = [np.nanmean(bands[i][where]) if where.any() else np.nan for i in (7, 2, 5, 6)]
        spread = np.nanstd(change[where]) if where.any() else np.nan
        print(
            f"  {name:15s} {100 * where.mean():5.1f} %  dNDVI {values[0]:+.2f} +- {spread:.2f}  "
            f"dVV {values[1]:+.1f} dB  dVH {values[2]:+.1f} dB  slope {values[3]:.1f}"
        )
    scores: dict[str, Any] = {}
    for name, band in zip(BANDS, bands, strict=True):
        scores[name] = best_threshold(band, truth).f1
    r0, r1, c0, c1 = windows["train"]
    v0, v1, w0, w1 = windows["validation"]
    forest = fit_pixel_forest(
        {"train": (bands[:, r0:r1, c0:c1], truth[r0:r1, c0:c1])}
    ).with_threshold({"validation": (bands[:, v0:v1, w0:w1], truth[v0:v1, w0:w1])})
    t0, t1, u0, u1 = windows["test"]
    held = forest.probability(bands[:, t0:t1, u0:u1]) >= forest.threshold
    scores["forest"] = f1_score(held, truth[t0:t1, u0:u1])
    best = max(BANDS, key=lambda name: scores[name])
    print(f"  best threshold on one band, chosen on the truth: {best}, F1 {scores[best]:.3f}")
    print(f"  forest of single pixels, held-out part: F1 {scores['forest']:.3f}")
    if pictures is not None:
        draw(pictures / f"valley_{seed}.png", optics, change, vv, truth, kinds)
    return scores


def draw(
    path: Path,
    optics: dict[int, tuple[Floats, Floats]],
    change: Floats,
    vv: Floats,
    truth: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
) -> None:
    """Draw true colour of both years, change, VV and the truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    high, wide = truth.shape
    across = 2 if wide > high else 5
    fig, axes = plt.subplots(
        -(-5 // across), across, figsize=(6 * across, 6 * high / wide * -(-5 // across) + 1)
    )
    panels = axes.ravel()
    for axis, year in zip(panels, (place.PRE_YEAR, place.POST_YEAR), strict=False):
        axis.imshow(np.clip(optics[year][1].transpose(1, 2, 0) / 1800.0, 0, 1) ** 0.7)
        axis.set_title(f"greenest pixel {year}, made up")
    panels[2].imshow(change, cmap="RdBu", vmin=-0.4, vmax=0.4)
    panels[2].set_title("change of NDVI")
    panels[3].imshow(vv, cmap="gray", vmin=-20, vmax=-6)
    panels[3].set_title("VV, dB")
    panels[4].imshow(truth, cmap="gray")
    panels[4].imshow(np.where(kinds > 0, kinds, np.nan), cmap="tab10", vmin=0, vmax=9, alpha=0.8)
    panels[4].set_title("slumps (white) and look-alikes")
    for axis in panels:
        axis.axis("off")
    fig.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=60)
    plt.close(fig)


def main() -> None:
    """Read the words of the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--cols", type=int, default=1024)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument(
        "--build", action="store_true", help="write the catalogue of the first seed"
    )
    words = parser.parse_args()
    shape = (words.rows, words.cols)
    if words.build:
        with tempfile.TemporaryDirectory() as folder:
            start, cpu = time.perf_counter(), time.process_time()
            build(Path(folder, "c"), Path(folder, "t"), seed=words.seeds[0], shape=shape)
            size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"build: {time.perf_counter() - start:.1f} s wall, "
                f"{time.process_time() - cpu:.1f} s of processor, {peak:.0f} MB at most, "
                f"{size / 1e6:.0f} MB on disk"
            )
    found = [report(seed, shape, words.pictures) for seed in words.seeds]
    single = [max(f[name] for name in BANDS) for f in found]
    forest = [f["forest"] for f in found]
    print(
        f"\nbest single threshold over {len(found)} valleys: {np.mean(single):.3f} (< 0.6 wanted)"
    )
    print(f"forest of single pixels: {np.mean(forest):.3f}")


if __name__ == "__main__":
    main()
