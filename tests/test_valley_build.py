"""The made-up valley on disk: real ids and properties, labels, equal bytes, survival of kills."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import geopandas
import numpy as np
import pytest

from gee.emulator.catalog import BandData, Catalog
from gee.valley import CRS, LABEL, OWN, build
from gee.valley.landcover import DISTRACTORS
from thawslump import raster

SHAPE = (120, 96)


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file that counts, by name (marks of change and leftovers aside)."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def valley(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("valley")
    build(folder / "catalog", folder / "truth", seed=4, shape=SHAPE)
    return folder


def assets(catalog: Catalog, asset_id: str = "") -> list[str]:
    found = []
    for child in catalog.children(asset_id):
        found.append(child.id)
        found += assets(catalog, child.id)
    return found


def test_everything_is_labelled_made_up(valley: Path) -> None:
    "Every image and table, every feature, every file of truth/, and valley.json"
    catalog = Catalog(valley / "catalog")
    seen = 0
    for asset_id in assets(catalog):
        asset = catalog.get(asset_id)
        assert asset is not None
        if asset.type in ("IMAGE", "TABLE"):
            seen += 1
            assert asset.properties["made_up"] is True
            assert asset.properties["description"] == LABEL
        if asset.type == "TABLE":
            assert all(f["properties"]["made_up"] for f in catalog.features(asset_id))
    assert seen == 24 + 28 + 28 + 1 + 1 + 60 + 4 + 3
    facts = json.loads((valley / "catalog/valley.json").read_text())
    assert facts["made_up"] is True and facts["description"] == LABEL
    for name in ("truth.tif", "susceptibility_truth.tif", "distractors.tif"):
        with raster.open_raster(valley / "truth" / name) as source:
            assert source.tags()["description"] == LABEL
    for layer in ("slumps", "parts"):
        frame = geopandas.read_file(valley / f"truth/{layer}.gpkg")
        assert frame["made_up"].all() and (frame["description"] == LABEL).all()


def test_sentinel2_looks_like_the_real_collection(valley: Path) -> None:
    "Bands, grids, types and properties of COPERNICUS/S2_SR_HARMONIZED"
    images = Catalog(valley / "catalog").children("COPERNICUS/S2_SR_HARMONIZED")
    assert len(images) == 28
    for image in images:
        bands = {band.id: band for band in image.bands}
        wanted = [f"B{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8)] + ["B8A", "B9", "B11", "B12", "SCL"]
        assert list(bands) == wanted
        for names, size in (
            (("B2", "B3", "B4", "B8"), 10),
            (("B5", "B11", "SCL"), 20),
            (("B1", "B9"), 60),
        ):
            for name in names:
                assert bands[name].transform[0] == size and bands[name].crs == CRS
                assert bands[name].transform[2] % size == 0
        assert bands["B4"].dtype == np.uint16 and bands["SCL"].dtype == np.uint8
        for name in (
            "CLOUDY_PIXEL_PERCENTAGE",
            "MEAN_SOLAR_ZENITH_ANGLE",
            "MGRS_TILE",
            "PRODUCT_ID",
        ):
            assert name in image.properties
        assert image.index == image.properties["system:index"]
        assert 25 < image.properties["MEAN_SOLAR_ZENITH_ANGLE"] < 80


def test_every_scene_has_its_cloud_score(valley: Path) -> None:
    "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED: the scene's index and time, cs and cs_cdf at 10 m"
    catalog = Catalog(valley / "catalog")
    scenes = catalog.children("COPERNICUS/S2_SR_HARMONIZED")
    scores = catalog.children("GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED")
    assert {score.index for score in scores} == {scene.index for scene in scenes}
    times = {scene.index: scene.start_ms for scene in scenes}
    for score in scores:
        assert score.start_ms == times[score.index]
        assert score.properties["system:index"] == score.index
        assert [band.id for band in score.bands] == ["cs", "cs_cdf"]
        for band in score.bands:
            assert band.dtype == np.float32 and band.transform[0] == 10 and band.shape == SHAPE
            values, _ = band.read(0, 0, *[SHAPE[0], 0, SHAPE[1]])
            assert values.min() >= 0 and values.max() <= 1


def test_a_lost_cloud_score_comes_back_the_same(valley: Path, tmp_path: Path) -> None:
    "Killed between a scene and its score: only the score is made again"
    build(tmp_path / "c", tmp_path / "t", seed=4, shape=SHAPE)
    folder = tmp_path / "c/GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
    lost = sorted(folder.glob("*/asset.json"))[3]
    lost.unlink()
    build(tmp_path / "c", tmp_path / "t", seed=4, shape=SHAPE)
    assert digests(tmp_path / "c") == digests(valley / "catalog")


def test_climate_classes_and_canopy_heights(valley: Path) -> None:
    "Numbers of Beck et al. on 30 arc seconds; whole metres on 1/4000 degree; both cover the valley"
    catalog = Catalog(valley / "catalog")
    facts = json.loads((valley / "catalog/valley.json").read_text())
    west, south, east, north = facts["bounds"]
    for name, step, known in (
        ("koeppen_geiger", 1 / 120, {27, 29}),
        ("canopy_height", 1 / 4000, set(range(9))),
    ):
        asset = catalog.get(f"{OWN}/{name}")
        assert asset is not None
        (band,) = asset.bands
        assert band.crs == "EPSG:4326" and band.dtype == np.uint8
        assert band.transform[0] == -band.transform[4] == pytest.approx(step)
        rows, cols = band.shape
        assert band.transform[2] <= west and band.transform[2] + cols * step >= east
        assert band.transform[5] >= north and band.transform[5] - rows * step <= south
        values, mask = band.read(0, 0, rows, 0, cols)
        assert set(np.unique(values[mask])) <= known
    assert values[mask].any(), "some shrub stands higher than half a metre"


def test_sentinel1_looks_like_the_real_collection(valley: Path) -> None:
    "Bands and properties of COPERNICUS/S1_GRD, coarse angle, both passes"
    images = Catalog(valley / "catalog").children("COPERNICUS/S1_GRD")
    assert len(images) == 24
    for image in images:
        assert [band.id for band in image.bands] == ["VV", "VH", "angle"]
        assert image.bands[0].shape == SHAPE
        assert image.bands[2].transform[0] == 1000.0
        properties = image.properties
        assert properties["instrumentMode"] == "IW"
        assert properties["transmitterReceiverPolarisation"] == ["VV", "VH"]
        assert properties["resolution_meters"] == 10
        assert (properties["orbitNumber_start"] - 73) % 175 + 1 == (
            properties["relativeOrbitNumber_start"]
        )
    passes = [image.properties["orbitProperties_pass"] for image in images]
    assert passes.count("ASCENDING") == passes.count("DESCENDING") == 12


def test_elevation_model_is_the_relief(valley: Path) -> None:
    "GLO-30 in degrees: 1 by 3 arc seconds, within metres of the ground it was flown over"
    from gee.valley.landscape import make

    (tile,) = Catalog(valley / "catalog").children("COPERNICUS/DEM/GLO30")
    band = tile.bands[0]
    assert band.id == "DEM" and band.crs == "EPSG:4326"
    assert band.transform[0] == pytest.approx(3 / 3600)
    assert band.transform[4] == pytest.approx(-1 / 3600)
    data, mask = band.read(0, 0, *[band.shape[0], 0, band.shape[1]])
    land = make(4, SHAPE)
    assert np.quantile(data[mask], 0.02) > land.dem.min() - 3
    assert np.median(data[mask]) == pytest.approx(np.median(land.dem), abs=6.0)


def test_climate_is_that_of_tundra(valley: Path) -> None:
    "Monthly kelvin and metres on a tenth of a degree; warmest month between 0 and 15 degrees"
    images = Catalog(valley / "catalog").children("ECMWF/ERA5_LAND/MONTHLY_AGGR")
    assert len(images) == 60
    july = next(image for image in images if image.index == "202007")
    warm, _ = july.bands[0].read(0, 0, july.bands[0].shape[0], 0, july.bands[0].shape[1])
    assert july.bands[0].id == "temperature_2m"
    assert (warm > 273.15).all() and (warm < 288.15).all()
    edge = july.bands[0].transform[2]
    assert (edge / 0.1) % 1 == pytest.approx(0.5, abs=1e-6)  # centres on whole tenths
    assert july.start_ms is not None and date.fromtimestamp(july.start_ms / 1000).year == 2020


def test_lines_and_ground_maps_are_there(valley: Path) -> None:
    "Roads, rivers, faults as tables in degrees; permafrost and lithology as images"
    catalog = Catalog(valley / "catalog")
    for name in ("roads", "rivers", "faults"):
        features = catalog.features(f"{OWN}/{name}")
        assert features
        for feature in features:
            points = np.array(json.dumps(feature["geometry"]["coordinates"]).count("["))
            assert points > 1
    ice = catalog.get(f"{OWN}/permafrost")
    assert ice is not None and next(b.id for b in ice.bands) == "ice_content"
    assert catalog.get(f"{OWN}/lithology") is not None
    cover = catalog.get("ESA/WorldCover/v200/2021")
    assert cover is not None
    values, mask = cover.bands[0].read(0, 0, cover.bands[0].shape[0], 0, cover.bands[0].shape[1])
    assert set(np.unique(values[mask])) <= {20, 30, 60, 80, 90, 100}


def test_truth_fits_together(valley: Path) -> None:
    "Raster, outlines and facts tell the same"
    facts = json.loads((valley / "catalog/valley.json").read_text())
    truth = raster.read(valley / "truth/truth.tif")
    outlines = geopandas.read_file(valley / "truth/slumps.gpkg")
    assert str(outlines.crs.to_string()) == CRS
    assert (outlines["part"] == "whole").all()
    assert len(outlines) == facts["slumps"] >= 1
    assert truth.array.shape == (1, *SHAPE)
    assert set(np.unique(truth.array)) == {0, 1}
    covered = truth.array.sum() * 100.0
    assert covered == pytest.approx(outlines.geometry.area.sum(), rel=0.1)
    assert outlines["area"].to_numpy() == pytest.approx(outlines.geometry.area.to_numpy(), abs=0.02)
    chance = raster.read(valley / "truth/susceptibility_truth.tif")
    assert chance.array.dtype == np.float32
    assert chance.array.min() >= 0 and chance.array.max() > 0
    kinds = raster.read(valley / "truth/distractors.tif").array
    assert set(np.unique(kinds)) <= {0, *DISTRACTORS.values()}


def test_equal_seeds_equal_bytes(valley: Path, tmp_path: Path) -> None:
    "A second valley of the same seed has the same files, the GeoPackage included"
    build(tmp_path / "catalog", tmp_path / "truth", seed=4, shape=SHAPE)
    assert digests(tmp_path) == digests(valley)


def test_another_seed_replaces_the_valley_and_nothing_else(tmp_path: Path) -> None:
    "Images of the former valley go; an image that somebody ingested stays"
    build(tmp_path / "catalog", tmp_path / "truth", seed=1, shape=(96, 96))
    first = json.loads((tmp_path / "catalog/valley.json").read_text())
    catalog = Catalog(tmp_path / "catalog", writable=True)
    own = BandData("VV", np.zeros((4, 4), np.float32), CRS, (10.0, 0, 0, 0, -10.0, 0))
    catalog.put_image("COPERNICUS/S1_GRD/mine", [own], {})
    build(tmp_path / "catalog", tmp_path / "truth", seed=2, shape=(96, 96))
    second = json.loads((tmp_path / "catalog/valley.json").read_text())
    assert first["assets_sha256"] != second["assets_sha256"]
    catalog = Catalog(tmp_path / "catalog")
    images = catalog.children("COPERNICUS/S1_GRD")
    assert len(images) == 25 and any(image.index == "mine" for image in images)
    assert len(catalog.children("COPERNICUS/S2_SR_HARMONIZED")) == 28


def test_a_rerun_makes_only_what_is_missing(valley: Path, tmp_path: Path) -> None:
    "Assets that stand are not written again"
    words: list[str] = []
    build(tmp_path / "c", tmp_path / "t", seed=4, shape=SHAPE)
    images = Catalog(tmp_path / "c").children("COPERNICUS/S1_GRD")
    kept = tmp_path / "c/COPERNICUS/S1_GRD" / images[0].index / "asset.json"
    gone = tmp_path / "c/COPERNICUS/S1_GRD" / images[5].index / "asset.json"
    stamp = kept.stat().st_mtime_ns
    gone.unlink()
    build(
        tmp_path / "c", tmp_path / "t", seed=4, shape=SHAPE, progress=lambda s, w: words.append(w)
    )
    assert kept.stat().st_mtime_ns == stamp
    assert gone.exists()
    assert digests(tmp_path / "c") == digests(valley / "catalog")
    assert words[-1] == "valley complete" and any("Sentinel-1 of" in word for word in words)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_and_started_again_it_ends_the_same(valley: Path, tmp_path: Path) -> None:
    "SIGKILL at three moments; valley.json is only there when all else is"
    code = (
        "import sys; from pathlib import Path; from gee.valley import build; d = Path(sys.argv[1]);"
        f"build(d / 'catalog', d / 'truth', seed=4, shape={SHAPE})"
    )
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    marker = tmp_path / "catalog/valley.json"
    for images in (0, 6, 30):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            done = list((tmp_path / "catalog/COPERNICUS").glob("S*/*/asset.json"))
            if len(done) > images or (images == 0 and (tmp_path / "truth").exists()):
                break
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.returncode != 0:
            assert not marker.exists()
    build(tmp_path / "catalog", tmp_path / "truth", seed=4, shape=SHAPE)
    assert not list(tmp_path.rglob(".*.tmp*"))
    names = digests(tmp_path)
    assert {k: v for k, v in names.items() if k in digests(valley)} == digests(valley)
