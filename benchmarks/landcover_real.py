"""The land cover's own path on real images: points in, tree, map, accuracy in three ways.

    python benchmarks/landcover_real.py [--data DIR] [--figure FILE.png] [--json]

1. `s2_amazon_landcover` (RStoolbox): one Sentinel-2 L2A image, 25 polygons of 4 classes. The 12
   bands are reflectance with an offset of 0.1 (1000 DN), which the harmonised collection has
   removed already: it is taken off before anything else. Ingested as that collection, with the
   polygons as the user's file, and learned by `gee.exports.landcover.learn` as an export does. The
   file has no date and no scene classification: both are made up (clear everywhere).
2. `landcover_gdalcubes_l8` (gdalcubes): 19 Landsat 8 scenes of 2018 with their QA band, pixels of
   3 km, and 39 points of 3 classes, four of which lie outside every scene. The median of what the
   QA band calls clear, reflectance after removing its offset, through the same functions: they take
   any image as predictors.

For each: overall accuracy and kappa with folds grouped by polygon (where there are any), by
square block, and at random; and scikit-learn's DecisionTreeClassifier on the same samples and
folds, ten seeds. The emulator grows its trees with scikit-learn too, so the comparison tests the
way from the points to the figures, not Earth Engine's own CART: that needs the live service.
The samples themselves are compared with those that rasterio reads from the files. Last, what a tile
costs with the tree as text and with one that is trained inside it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
AMAZON = {"village": 1, "forest": 2, "dryout": 4, "water": 5}
NEW_YORK = {"urban": 1, "vegetation": 2, "water": 5}
OFFSET = 1000  # DN, of products from January 2022 on
MADE_UP_DAY = dt.date(2022, 7, 15)
LANDSAT = ("B2", "B3", "B4", "B5", "B6", "B7")
SEEDS = 10


def data_folder() -> Path:
    """Return the folder of the real data, `THAWSLUMP_DATA` or ../shared/data."""
    root = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("THAWSLUMP_DATA", root.parent / "shared" / "data"))


def scikit(table: Array, fold: Array) -> dict[str, float]:
    """Return accuracies of scikit-learn's tree on the same table and folds, over ten seeds."""
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    x, y = table[:, 1:].astype(np.float32), table[:, 0].astype(int)
    rows = []
    for seed in range(SEEDS):
        tree = DecisionTreeClassifier(random_state=seed)
        said = cross_val_predict(tree, x, y, cv=PredefinedSplit(fold))
        rows.append(((said == y).mean(), cohen_kappa_score(y, said)))
    overall, kappa = np.array(rows).T
    return {
        "overall": float(overall.mean()),
        "overall_least": float(overall.min()),
        "overall_most": float(overall.max()),
        "kappa": float(kappa.mean()),
    }


def compared(table: Array, names: tuple[str, ...], ways: dict[str, Array]) -> dict[str, Any]:
    """Return, by way of holding points back, our figures beside scikit-learn's."""
    from gee.exports.landcover import grown, measures

    answer = grown(table, names, ways, lambda request: request())
    out: dict[str, Any] = {"nodes": answer["nodes"], "text_differs_at": answer["differ"]}
    for way, fold in ways.items():
        ours = measures(np.asarray(answer[way]))
        theirs = scikit(table, fold)
        out[way] = {
            "folds": int(fold.max()) + 1,
            **{key: ours[key] for key in ("overall", "kappa", "producers", "users")},
            "scikit": theirs,
        }
    return out


# Sentinel-2, Amazon --------------------------------------------------------------------------


def put_amazon(catalog: Path, folder: Path) -> Path:
    """Ingest image and heights; return the polygons with classes of the paper."""
    import geopandas
    import rasterio

    from gee.emulator.catalog import BandData, Catalog

    out = Catalog(catalog, writable=True)
    with rasterio.open(folder / "s2_l2a_12band.tif") as file:
        crs, transform = file.crs.to_string(), tuple(file.transform)[:6]
        bands = [
            BandData(name, np.round(array * 1e4 - OFFSET).astype("uint16"), crs, transform)
            for name, array in zip(file.descriptions, file.read(), strict=True)
        ]
    clear = np.full(bands[0].array.shape, 4, "uint8")
    bands.append(BandData("SCL", clear, crs, transform, pyramiding="SAMPLE"))
    collection = "COPERNICUS/S2_SR_HARMONIZED"
    out.put_collection(collection)
    noon = dt.datetime(*MADE_UP_DAY.timetuple()[:3], 14, tzinfo=dt.UTC)
    out.put_image(f"{collection}/amazon", bands, {}, start_ms=int(noon.timestamp() * 1000))
    with rasterio.open(folder / "srtm_dem.tif") as file:
        heights = BandData("elevation", file.read(1), file.crs.to_string(), transform)
    out.put_image("users/a/srtm", [heights])
    frame = geopandas.read_file(folder / "training_polygons.geojson")
    frame["landcover"] = frame["class"].map(AMAZON)
    path = catalog.parent / "polygons.gpkg"
    frame.to_file(path, engine="pyogrio")
    return path


def amazon_site() -> Any:
    """The place, on a grid of 10 m that the image covers."""
    from thawslump.site import Site

    return Site(
        name="amazon",
        role="area",
        bounds=(-56.3734, -1.4796, -56.3518, -1.4590),
        crs="EPSG:32721",
        pre={"start": "2022-07-01", "end": "2022-08-01"},  # type: ignore[arg-type]
        post={"start": "2023-07-01", "end": "2023-08-01"},  # type: ignore[arg-type]
        sources={"s1": "none", "dem": "users/a/srtm", "landcover": "none"},
        landcover_points=Path("polygons.gpkg"),
        slope_correction="none",
    )


def worst_difference(table: Array, names: tuple[str, ...], points: Any, folder: Path) -> float:
    """Return the largest difference (DN) between our samples and those that rasterio reads."""
    import rasterio
    from pyproj import Transformer

    bands = [name for name in names if name.startswith("B")]
    to_degrees = Transformer.from_crs("EPSG:32721", "EPSG:4326", always_xy=True)
    with rasterio.open(folder / "s2_l2a_12band.tif") as file:
        where = [to_degrees.transform(p.x, p.y) for p in points]
        indexes = [file.descriptions.index(name) + 1 for name in bands]
        read = np.array(list(file.sample(where, indexes=indexes)))
    expected = np.round(read * 1e4 - OFFSET)
    # Points fall out and come back in their own order: compare as sorted rows.
    columns = [1 + names.index(name) for name in bands]
    labels = np.array([p.label for p in points], float)
    ours = np.column_stack([table[:, 0], table[:, columns]])
    theirs = np.column_stack([labels, expected])
    if ours.shape != theirs.shape:
        return float("inf")
    order = (np.lexsort(part.T) for part in (ours, theirs))
    first, second = (part[rows] for part, rows in zip((ours, theirs), order, strict=True))
    return float(np.abs(first - second).max())


def amazon(catalog: Path, folder: Path, per_class: int = 200) -> dict[str, Any]:
    """Learn, judge and map the Sentinel-2 image; the map under ``map``."""
    from dataclasses import replace

    import ee

    from gee.config import BackendConfig
    from gee.exports import landcover as exported
    from gee.points import read_points
    from gee.scripts import landcover
    from gee.scripts.settled import Settled
    from gee.session import connect

    polygons = put_amazon(catalog, folder)
    site = amazon_site()

    def ask(request: Any) -> Any:
        return request()

    with connect(BackendConfig(), catalog):
        learned = exported.learn(site, Settled(), root=polygons.parent, per_class=per_class)
        settled = Settled(clear_day=learned.day, tree=learned.tree)
        chosen = read_points(polygons, site, per_class)
        names = landcover.inputs(site)
        image = landcover.predictors(site, replace(settled, tree=None))
        points = chosen.collection("EPSG:32721")
        table, groups = exported.table_of(image, names, points, site, None, ask)
        _, blocks = exported.table_of(image, names, points, site, 200.0, ask)
        ways = {
            "polygon": exported.dealt_by_group(groups, table[:, 0]),
            "block of 200 m": exported.dealt_by_group(blocks, table[:, 0]),
            "random": exported.dealt_at_random(len(table)),
        }
        found = compared(table, names, ways)
        found["points"] = len(table)
        found["per_class"] = learned.facts["points"]["per_class"]
        found["learned"] = learned.facts["accuracy"]
        found["worst_difference_dn"] = worst_difference(table, names, chosen.points, folder)
        inside = landcover.trained(
            landcover.sampled(image, points, site, keep=[landcover.GROUP]), list(names)
        )
        found["tile"] = {
            "tree as text": cost(landcover.cart(site, settled), site.grid()),
            "trained in the tile": cost(landcover.by_tree(image, inside), site.grid()),
        }
        colours = landcover.clearest_day(site, settled).select(["B4", "B3", "B2"])
        stacked = ee.Image.cat([landcover.cart(site, settled), colours])
        found["map"] = pixels(stacked, site.grid())
    return found


def cost(image: Any, grid: Any) -> dict[str, float]:
    """Return bytes of the expression and the emulator's seconds for a tile of 64 x 64 pixels."""
    from odc.geo.geobox import GeoBox

    corner = GeoBox((64, 64), grid.transform, grid.crs)
    begun = time.perf_counter()
    pixels(image, corner)
    seconds = time.perf_counter() - begun
    return {"bytes": len(image.serialize()), "seconds": round(seconds, 3)}


def pixels(image: Any, grid: Any) -> dict[str, Array]:
    """Compute an image on a grid; masked pixels are NaN."""
    import ee

    a = grid.transform
    answer = ee.data.computePixels(
        {
            "expression": image.toDouble().unmask(-1, False),
            "fileFormat": "NUMPY_NDARRAY",
            "grid": {
                "dimensions": {"width": grid.shape[1], "height": grid.shape[0]},
                "affineTransform": {
                    "scaleX": a.a,
                    "translateX": a.c,
                    "scaleY": a.e,
                    "translateY": a.f,
                },
                "crsCode": str(grid.crs),
            },
        }
    )
    return {name: np.where(answer[name] == -1, np.nan, answer[name]) for name in answer.dtype.names}


# Landsat 8, New York -------------------------------------------------------------------------


def clear_by_qa(qa: Array) -> Array:
    """Return where a Landsat Collection 1 QA band shows clear ground: no fill, cloud or shadow."""
    return ((qa & 1) == 0) & ((qa >> 4 & 1) == 0) & ((qa >> 7 & 3) != 3) & ((qa >> 9 & 3) != 3)


def put_landsat(catalog: Path, folder: Path) -> None:
    """Ingest the scenes, each on its own grid, as top-of-atmosphere reflectance."""
    import rasterio

    from gee.emulator.catalog import BandData, Catalog

    out = Catalog(catalog, writable=True)
    out.put_collection("users/a/landsat")
    for scene in sorted(path for path in (folder / "L8NY18").iterdir() if path.is_dir()):
        date = scene.name.split("_")[3]
        stem = next(scene.glob("*_B4.TIF")).name.removesuffix("_B4.TIF")
        with rasterio.open(scene / f"{stem}_BQA.TIF") as file:
            clear = clear_by_qa(file.read(1))
        bands = []
        for name in LANDSAT:
            with rasterio.open(scene / f"{stem}_{name}.TIF") as file:
                values = file.read(1) * 2e-5 - 0.1  # the offset goes before any index
                crs, transform = file.crs.to_string(), tuple(file.transform)[:6]
            values = np.where(clear, values, np.nan).astype("float32")
            bands.append(BandData(name, values, crs, transform))
        moment = dt.datetime.strptime(date, "%Y%m%d").replace(hour=15, tzinfo=dt.UTC)
        out.put_image(
            f"users/a/landsat/{scene.name}", bands, {}, start_ms=int(moment.timestamp() * 1000)
        )


def new_york(catalog: Path, folder: Path) -> dict[str, Any]:
    """Judge a tree on the median of the clear Landsat scenes."""
    import ee
    import geopandas

    from gee.config import BackendConfig
    from gee.exports import landcover as exported
    from gee.points import read_points
    from gee.session import connect
    from thawslump.site import Site

    put_landsat(catalog, folder)
    frame = geopandas.read_file(folder / "ny_samples.gpkg")
    frame["landcover"] = frame["class"].map(NEW_YORK)
    path = catalog.parent / "points.gpkg"
    frame.to_file(path, engine="pyogrio")
    west, south, east, north = frame.to_crs(4326).total_bounds
    site = Site(
        name="new-york",
        role="area",
        bounds=(west - 0.1, south - 0.1, east + 0.1, north + 0.1),
        crs="EPSG:32618",
        resolution=1000,
        source="files",
    )

    def ask(request: Any) -> Any:
        return request()

    with connect(BackendConfig(), catalog):
        median = ee.ImageCollection("users/a/landsat").median()
        image = median.addBands(median.normalizedDifference(["B5", "B4"]).rename("NDVI"))
        names = (*LANDSAT, "NDVI")
        points = read_points(path, site).collection("EPSG:32618")
        table, blocks = exported.table_of(image, names, points, site, 50_000.0, ask)
        ways = {
            "block of 50 km": exported.dealt_by_group(blocks, table[:, 0]),
            "random": exported.dealt_at_random(len(table)),
        }
        found = compared(table, names, ways)
        found["points"] = len(table)
        found["per_class"] = {
            name: int((table[:, 0] == number).sum()) for name, number in NEW_YORK.items()
        }
    return found


# What is shown -------------------------------------------------------------------------------


def draw(found: dict[str, Array], path: Path) -> None:
    """Write true colour and map side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import BoundaryNorm, ListedColormap

    from gee.scripts.landcover import CLASSES

    colours = ["#c0392b", "#1e8449", "#a9cf54", "#d9b27c", "#2e86c1", "#5dade2", "#7f8c8d", "white"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6))
    scene = np.dstack([found[name] for name in ("B4", "B3", "B2")])
    left.imshow(np.clip(scene / np.nanpercentile(scene, 99), 0, 1))
    left.set_title("Sentinel-2, bands 4 3 2")
    shown = right.imshow(
        found["CART_LC_classified"],
        cmap=ListedColormap(colours),
        norm=BoundaryNorm(np.arange(0.5, 9), 8),
        interpolation="nearest",
    )
    bar = figure.colorbar(shown, ax=right, ticks=range(1, 9))
    bar.ax.set_yticklabels(list(CLASSES.values()))
    right.set_title("land cover (CART)")
    for axis in (left, right):
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def lines(title: str, found: dict[str, Any]) -> list[str]:
    """Return the figures of one data set for people."""
    counts = ", ".join(f"{name} {count}" for name, count in found["per_class"].items())
    out = [
        f"{title}: {found['points']} points ({counts}), tree of {found['nodes']} nodes, "
        f"text differs at {found['text_differs_at']}"
    ]
    for way, ours in found.items():
        if not isinstance(ours, dict) or "scikit" not in ours:
            continue
        theirs = ours["scikit"]
        out.append(
            f"  {way:15} {ours['folds']} folds: overall {ours['overall']:.3f}, kappa "
            f"{ours['kappa']:.3f}; scikit-learn {theirs['overall']:.3f} "
            f"({theirs['overall_least']:.3f} to {theirs['overall_most']:.3f}), kappa "
            f"{theirs['kappa']:.3f}"
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--figure", type=Path, help="write the map of the Amazon here")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = amazon(_made(Path(folder) / "a"), given.data / "s2_amazon_landcover")
        second = new_york(_made(Path(folder) / "b"), given.data / "landcover_gdalcubes_l8")
    picture = first.pop("map")
    if given.figure:
        draw(picture, given.figure)
    if given.json:
        print(json.dumps({"amazon": first, "new_york": second}, indent=1))
        return
    print("\n".join(lines("Amazon, Sentinel-2", first)))
    print(f"  worst difference to rasterio's samples: {first['worst_difference_dn']:g} DN")
    for way, taken in first["tile"].items():
        print(f"  a tile of 64 x 64, {way}: {taken['seconds']} s, {taken['bytes']} bytes asked")
    print("\n".join(lines("New York, Landsat 8", second)))


def _made(folder: Path) -> Path:
    catalog = folder / "catalog"
    catalog.mkdir(parents=True)
    return catalog


if __name__ == "__main__":
    main()
