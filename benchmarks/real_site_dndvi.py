"""The real site through the whole front of the chain: ingest, scripts, emulator, export, scores.

    python benchmarks/real_site_dndvi.py [--data DIR] [--workspace DIR] [--json]

Data: one cube of Sen12Landslides (Hoehn et al. 2025, CC-BY-4.0; contains Copernicus Sentinel
data), Emilia-Romagna, rain-triggered slides of 2023-05-16, 128 x 128 pixels of 10 m.

The windows follow from the date of the event alone, by the first choice of Ganerod et al. (2024)
that both sensors can fill: two months on each side, the day of the event in neither. The mask is
read only after the export has ended.

What is printed
- area under the ROC curve, pixel by pixel, of -dNDVI and of the change in backscatter (weak);
- how many of the annotation boxes lie on the mask;
- the share of clear pixels of every Sentinel-2 date: the two dates around the event are clouds.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

EVENT = dt.date(2023, 5, 16)
PRE = (dt.date(2023, 3, 16), EVENT)
POST = (dt.date(2023, 5, 17), dt.date(2023, 7, 17))
SIZE = 128
SITES = {  # name: (role, rows, columns) of the cube; 80 m lie between those with outlines
    "emilia-train": ("train", (0, 128), (68, 128)),
    "emilia-validation": ("validation", (68, 128), (0, 60)),
    "emilia-test": ("test", (0, 60), (0, 60)),
    "emilia": ("area", (0, 128), (0, 128)),
    "emilia-ascending": ("area", (0, 128), (0, 128)),
}
DEM = "sen12landslides/dem"


def data_folder() -> Path:
    """Return the folder of the real data, `THAWSLUMP_DATA` or ../shared/data."""
    root = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("THAWSLUMP_DATA", root.parent / "shared" / "data"))


def cube_grid(data: Path) -> GeoBox:
    """Return the grid of the cube."""
    from gee.emulator.ingest_sen12 import sen12_mask

    mask, crs, transform = sen12_mask(data / "italy_s2_4120.nc")
    return GeoBox(mask.shape, Affine(*transform), crs)


def bounds_inside(grid: GeoBox) -> tuple[float, float, float, float]:
    """Return a longitude/latitude box whose pinned grid lies inside `grid`.

    A box of degrees is tilted against the pixels, so the grid around it is larger than the box
    itself; it is shrunk until nothing sticks out.
    """
    from thawslump.grid import grid_over, lonlat_bounds

    west, south, east, north = lonlat_bounds(grid)
    frame = grid.boundingbox
    for _ in range(200):
        inner = grid_over((west, south, east, north), 10, str(grid.crs)).boundingbox
        if inner.left >= frame.left and inner.right <= frame.right:
            if inner.bottom >= frame.bottom and inner.top <= frame.top:
                return (west, south, east, north)
            south, north = south + 2e-5, north - 2e-5
        else:
            west, east = west + 2e-5, east - 2e-5
    raise AssertionError("the grid is too small")


def make_workspace(folder: Path, data: Path) -> None:
    """Fill a workspace: the cubes as assets, the mask as outlines, five site files."""
    import geopandas
    import rasterio.features
    from shapely.geometry import shape

    from gee.emulator.catalog import Catalog
    from gee.emulator.ingest_sen12 import ingest_sen12, sen12_mask
    from thawslump.config import save_yaml
    from thawslump.files import write_text
    from thawslump.site import Site, Window

    names = ("italy_s2_4120.nc", "italy_s1asc_4120.nc", "italy_s1dsc_4120.nc")
    catalog = Catalog(folder / "catalog", writable=True)
    ingest_sen12(catalog, [data / name for name in names], dem=DEM)
    mask, crs, transform = sen12_mask(data / names[0])
    parts = rasterio.features.shapes(mask, mask > 0, transform=Affine(*transform))
    outlines = geopandas.GeoDataFrame(geometry=[shape(part) for part, _ in parts], crs=crs)
    (folder / "outlines").mkdir(exist_ok=True)
    outlines.to_file(folder / "outlines" / "emilia.gpkg", layer="slumps")
    whole = GeoBox(mask.shape, Affine(*transform), crs)
    for name, (role, rows, cols) in SITES.items():
        part = _part(whole, rows, cols)
        site = Site(
            name=name,
            role=role,  # type: ignore[arg-type]
            bounds=bounds_inside(part),
            crs=crs,
            pre=Window(start=PRE[0], end=PRE[1]),
            post=Window(start=POST[0], end=POST[1]),
            outlines=None if role == "area" else Path("outlines/emilia.gpkg"),
            sources={"dem": DEM},
            slope_correction="none",
            orbit_pass="ASCENDING" if name.endswith("ascending") else "DESCENDING",
        )
        save_yaml(folder / ("areas" if role == "area" else "sites") / f"{name}.yaml", site)
    # The parts are 60 pixels wide: larger crops would be mostly padding.
    write_text(
        folder / "thawslump.yaml",
        "name: Emilia-Romagna, slides of 2023-05-16\nsegmentation: {crop: 64, iterations: 40}\n",
    )


def _part(grid: GeoBox, rows: tuple[int, int], cols: tuple[int, int]) -> GeoBox:
    a = grid.transform
    corner = Affine(a.a, 0, a.c + cols[0] * a.a, 0, a.e, a.f + rows[0] * a.e)
    return GeoBox((rows[1] - rows[0], cols[1] - cols[0]), corner, grid.crs)


def export(folder: Path) -> dict[str, dict[str, Any]]:
    """Export every site through the emulator; return the facts of each."""
    from gee.exports.step import run
    from gee.steps import plan_export
    from thawslump.workspace import Workspace

    workspace = Workspace(folder)
    return {
        item.name: run(item, workspace, lambda fraction, words: None)
        for item in plan_export(workspace, 0)
    }


def auc(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the area under the ROC curve; equal scores count half.

    Examples
    --------
    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    from scipy.stats import rankdata

    known = np.isfinite(score)
    score, truth = score[known], truth[known] > 0
    ranks = rankdata(score)
    hits, rest = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - hits * (hits + 1) / 2) / (hits * rest))


def scores(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Return per site the area under the curve of every change band against the mask."""
    from gee.emulator.ingest_sen12 import sen12_mask
    from thawslump.raster import read_float
    from thawslump.workspace import Workspace

    workspace = Workspace(folder)
    mask, _, transform = sen12_mask(data / "italy_s2_4120.nc")
    found = {}
    for name in SITES:
        stack = read_float(workspace.stack(name))
        a = stack.grid.transform
        row = round((transform[5] - a.f) / 10)
        col = round((a.c - transform[2]) / 10)
        rows, cols = stack.grid.shape
        truth = mask[row : row + rows, col : col + cols]
        found[name] = {
            "rows": rows,
            "cols": cols,
            "slump_pixels": int(truth.sum()),
            "-dNDVI": auc(-stack.band("dNDVI"), truth),
            "|dVV|": auc(np.abs(stack.band("dVV")), truth),
            "|dVH|": auc(np.abs(stack.band("dVH")), truth),
            "slope": auc(stack.band("slope"), truth),
        }
    return found


def boxes_on_mask(data: Path) -> tuple[int, int]:
    """Return how many annotation boxes touch a pixel of the mask, and how many there are."""
    from gee.emulator.ingest_sen12 import sen12_annotations, sen12_mask

    path = data / "italy_s2_4120.nc"
    mask, _, (a, _, c, _, e, f) = sen12_mask(path)
    boxes = sen12_annotations(path)
    hits = 0
    for box in boxes:
        west, south, east, north = box.bounds
        rows = slice(int((north - f) // e), int((south - f) // e) + 1)
        cols = slice(int((west - c) // a), int((east - c) // a) + 1)
        hits += bool(mask[rows, cols].any())
    return hits, len(boxes)


def clear_shares(folder: Path) -> dict[str, float]:
    """Return the share of clear pixels of every Sentinel-2 date, by the scripts' own mask."""
    import ee

    from gee.config import BackendConfig
    from gee.scripts import sentinel2
    from gee.session import connect
    from thawslump.workspace import Workspace

    workspace = Workspace(folder)
    site = workspace.site("emilia")
    with connect(BackendConfig(), workspace.catalog):
        rows = (
            sentinel2.collection(site)
            .toList(100)
            .map(
                lambda image: ee.List(
                    [ee.Image(image).get("system:time_start"), _mean(ee.Image(image), site)]
                )
            )
        )
        answer = rows.getInfo()
    return {
        str(dt.datetime.fromtimestamp(time / 1000, tz=dt.UTC).date()): round(mean, 4)
        for time, mean in sorted(answer)
    }


def _mean(image: Any, site: Any) -> Any:
    import ee

    from gee.scripts import sentinel2
    from gee.scripts.place import region

    return (
        sentinel2.clear(image)
        .reduceRegion(ee.Reducer.mean(), region(site), crs=site.crs, scale=10)
        .get("clear")
    )


def measure(folder: Path, data: Path) -> dict[str, Any]:
    """Run everything in an empty folder and return the figures."""
    make_workspace(folder, data)
    facts = export(folder)
    clear = clear_shares(folder)
    hits, total = boxes_on_mask(data)
    return {
        "rule": f"two months on each side of {EVENT}, that day in neither: "
        f"{PRE[0]} .. {PRE[1]} and {POST[0]} .. {POST[1]} (ends not included)",
        "auc": scores(folder, data),
        "boxes_on_mask": hits,
        "boxes": total,
        "clear": clear,
        "requests": sum(int(fact["requests"]) for fact in facts.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="folder of the cube")
    parser.add_argument("--workspace", type=Path, default=None, help="keep the workspace here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = options.data or data_folder() / "sen12landslides_italy4120"
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.workspace or Path(temporary), data)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"windows: {found['rule']}")
    print(f"annotation boxes on the mask: {found['boxes_on_mask']} of {found['boxes']}")
    print("area under the ROC curve, by pixel (Sentinel-1: descending; ascending where named)")
    for name, row in found["auc"].items():
        parts = "  ".join(f"{band} {row[band]:.3f}" for band in ("-dNDVI", "|dVV|", "|dVH|"))
        print(f"  {name:18} {row['rows']} x {row['cols']}  {row['slump_pixels']:4} slump  {parts}")
    print("share of clear pixels by date")
    for date, share in found["clear"].items():
        words = "  rejected" if share < 0.01 else ""
        print(f"  {date}  {share:.3f}{words}")


if __name__ == "__main__":
    main()
