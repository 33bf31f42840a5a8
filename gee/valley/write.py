"""The valley on disk: a catalogue with the real collections' ids, and the truth apart from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gee.emulator.catalog import Catalog
from gee.valley.ground import put_ground
from gee.valley.landscape import make
from gee.valley.optical import BANDS, SCL
from gee.valley.place import CRS, LABEL, OWN, POST, PRE, bounds, grid, layout
from gee.valley.scenes import LAT, OpticalPass, RadarPass, Scenes, optical_passes
from gee.valley.truth import write_truth
from gee.valley.writer import (
    CLOUD_SCORE,
    DEM,
    ERA5,
    S1,
    S2,
    WORLDCOVER,
    Progress,
    Writer,
    band_data,
    milliseconds,
)
from thawslump.files import write_json

__all__ = ["VERSION", "build"]

VERSION = 3
"""Raised when equal seeds give another valley than before."""

TILE = "52WDE"


def _optical(writer: Writer, scenes: Scenes, each: OpticalPass) -> None:
    stamp = each.when.strftime("%Y%m%dT%H%M%S")
    index = f"{stamp}_{stamp}_T{TILE}"
    asset_id, score_id = f"{S2}/{index}", f"{CLOUD_SCORE}/{index}"
    here, scored = writer.here(asset_id), writer.here(score_id)
    if not (here and scored):
        arrays, valid, facts = scenes.optical(each)
        frames = {size: scenes.frame.coarser(size // 10) for size in (10, 20, 60)}
        masks: dict[int, NDArray[np.bool_] | None] = {10: None, 20: None, 60: None}
        if valid is not None:
            for size in masks:
                masks[size] = _all_valid(valid, size // 10)
        if not scored:
            scores = [
                band_data(name, arrays[name], frames[10], masks[10]) for name in ("cs", "cs_cdf")
            ]
            about = {"system:index": index, "MGRS_TILE": TILE}
            writer.image(score_id, scores, about, each.when)
    if not here:
        bands = [
            band_data(name, arrays[name], frames[size], masks[size]) for name, size in BANDS.items()
        ]
        bands.append(band_data("SCL", arrays["SCL"], frames[20], masks[20], "MODE"))
        seen = max(100.0 - facts["no data"], 1e-6)

        def share(*names: str) -> float:
            return round(100.0 * sum(facts[name] for name in names) / seen, 6)

        craft = "S2A" if each.craft.endswith("A") else "S2B"
        product = f"{craft}_MSIL2A_{stamp}_N0500_R{each.orbit:03d}_T{TILE}_{stamp}"
        properties = {
            "system:index": index,
            "PRODUCT_ID": product,
            "GRANULE_ID": f"L2A_T{TILE}_A000000_{stamp}",
            "DATATAKE_IDENTIFIER": f"G{craft}_{stamp}_000000_N05.00",
            "DATATAKE_TYPE": "INS-NOBS",
            "DATASTRIP_ID": f"{craft}_OPER_MSI_L2A_DS_MADE_UP_{stamp}",
            "SPACECRAFT_NAME": each.craft,
            "PROCESSING_BASELINE": "05.00",
            "GENERATION_TIME": milliseconds(each.when),
            "MGRS_TILE": TILE,
            "SENSING_ORBIT_NUMBER": each.orbit,
            "SENSING_ORBIT_DIRECTION": "DESCENDING",
            "MEAN_SOLAR_ZENITH_ANGLE": round(facts["sun_zenith"], 6),
            "MEAN_SOLAR_AZIMUTH_ANGLE": round(facts["sun_azimuth"], 6),
            "MEAN_INCIDENCE_ZENITH_ANGLE_B8": 4.0,
            "MEAN_INCIDENCE_AZIMUTH_ANGLE_B8": 104.0,
            "CLOUDY_PIXEL_PERCENTAGE": share("cloud medium", "cloud high", "cirrus"),
            "CLOUD_COVERAGE_ASSESSMENT": share("cloud medium", "cloud high", "cirrus"),
            "HIGH_PROBA_CLOUDS_PERCENTAGE": share("cloud high"),
            "MEDIUM_PROBA_CLOUDS_PERCENTAGE": share("cloud medium"),
            "THIN_CIRRUS_PERCENTAGE": share("cirrus"),
            "CLOUD_SHADOW_PERCENTAGE": share("shadow"),
            "SNOW_ICE_PERCENTAGE": share("snow"),
            "VEGETATION_PERCENTAGE": share("vegetation"),
            "NOT_VEGETATED_PERCENTAGE": share("bare"),
            "WATER_PERCENTAGE": share("water"),
            "DARK_FEATURES_PERCENTAGE": share("dark"),
            "UNCLASSIFIED_PERCENTAGE": share("unclassified"),
            "SATURATED_DEFECTIVE_PIXEL_PERCENTAGE": share("saturated"),
            "NODATA_PIXEL_PERCENTAGE": round(facts["no data"], 6),
            "DEGRADED_MSI_DATA_PERCENTAGE": 0,
            "REFLECTANCE_CONVERSION_CORRECTION": round(
                1.0 + 0.0334 * float(np.cos(2 * np.pi * (each.day - 3) / 365.25)), 9
            ),
        }
        writer.image(asset_id, bands, properties, each.when)
    writer.step(f"Sentinel-2 of {each.when.date()}")


def _all_valid(valid: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    rows, cols = valid.shape
    more = ((0, -rows % factor), (0, -cols % factor))
    full = np.pad(valid, more, mode="edge")
    rows, cols = full.shape
    return np.asarray(full.reshape(rows // factor, factor, cols // factor, factor).all(axis=(1, 3)))


def _radar(writer: Writer, scenes: Scenes, each: RadarPass, bands: Callable[[], Any]) -> None:
    end = each.when.replace(microsecond=0)
    end = datetime.fromtimestamp(end.timestamp() + 25, UTC)
    first, last = (t.strftime("%Y%m%dT%H%M%S") for t in (each.when, end))
    name = f"S1A_IW_GRDH_1SDV_{first}_{last}_{each.orbit:06d}_{each.orbit + 29000:06X}"
    index = f"{name}_{hashlib.sha256(name.encode()).hexdigest()[:4].upper()}"
    asset_id = f"{S1}/{index}"
    if not writer.here(asset_id):
        arrays = bands()
        view = scenes.geometry(each.ascending)
        angle_frame, angle = scenes.angle(each.ascending)
        properties = {
            "system:index": index,
            "GRD_Post_Processing_software_name": "thawslump (made up)",
            "familyName": "SENTINEL-1",
            "platform_number": "A",
            "platformHeading": round(view.heading if view.heading < 180 else view.heading - 360, 6),
            "instrument": "Synthetic Aperture Radar",
            "instrumentMode": "IW",
            "instrumentSwath": "IW",
            "productType": "GRD",
            "productClass": "S",
            "productTimelinessCategory": "Fast-24h",
            "resolution": "H",
            "resolution_meters": 10,
            "transmitterReceiverPolarisation": ["VV", "VH"],
            "orbitProperties_pass": each.direction,
            "orbitNumber_start": each.orbit,
            "orbitNumber_stop": each.orbit,
            "relativeOrbitNumber_start": each.relative,
            "relativeOrbitNumber_stop": each.relative,
            "cycleNumber": (each.orbit - 73) // 175 + 1,
            "sliceNumber": 1,
            "totalSlices": 1,
            "segmentStartTime": milliseconds(each.when),
        }
        writer.image(
            asset_id,
            [
                band_data("VV", arrays["VV"], scenes.frame),
                band_data("VH", arrays["VH"], scenes.frame),
                band_data("angle", angle, angle_frame),
            ],
            properties,
            each.when,
            end,
        )
    writer.step(f"Sentinel-1 of {each.when.date()}, {each.direction.lower()}")


def _sweep(root: Path) -> None:
    """Remove the temporary files of processes that were killed (`thawslump.files.atomic`)."""
    import psutil

    for path in root.glob("**/.*.tmp*"):
        found = re.search(r"\.(\d+)\.tmp", path.name)
        if found is not None and path.is_file() and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


def build(
    catalog_root: Path,
    truth_root: Path,
    *,
    seed: int,
    shape: tuple[int, int],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a valley: a catalogue for the emulator and the truth.

    Assets carry the ids, bands, units and properties of the real collections, and `made_up`,
    `description` besides. Every asset is written whole or not at all; a run that was killed is
    started again with the same arguments and makes only what is missing. Assets of a valley of
    another seed or size are deleted, assets of other origin are left alone.

    Parameters
    ----------
    catalog_root : Path
        Folder of the catalogue (`gee.emulator.catalog.Catalog`).
    truth_root : Path
        Folder for the truth: slumps.gpkg, parts.gpkg and the rasters truth, distractors and
        susceptibility_truth (.tif), in the
        CRS and on the grid of the Sentinel-1 images.
    seed : int
    shape : (rows, cols)
        10 m pixels.
    progress : callable, optional
        Called with a share 0..1 and words.

    Returns
    -------
    dict
        What was made, also written to `catalog_root`/valley.json when all else stands.

    Raises
    ------
    ConfigError
        The shape is too small.
    StorageError
        The disk is full or not writable.
    """
    say = progress or (lambda share, words: None)
    frame = grid(shape)
    key = hashlib.sha256(f"valley {VERSION} {seed} {shape[0]} {shape[1]}".encode()).hexdigest()[:16]
    catalog_root, truth_root = Path(catalog_root), Path(truth_root)
    marker = catalog_root / "valley.json"
    marker.unlink(missing_ok=True)
    for root in (catalog_root, truth_root):
        _sweep(root)
    say(0.0, "relief, ground ice, slumps")
    land = make(seed, frame.shape)
    scenes = Scenes(land)
    facts = write_truth(truth_root, land, frame)
    say(0.1, "truth")
    passes = optical_passes(seed)
    radar_scenes = list(scenes.radar_lazy())
    writer = Writer(catalog_root, key, len(passes) + len(radar_scenes) + 5, say)
    writer.clear()
    for collection in (S1, S2, CLOUD_SCORE, DEM, WORLDCOVER, ERA5):
        if writer.catalog.get(collection) is None or _is_folder(writer.catalog, collection):
            writer.catalog.put_collection(collection, {"description": f"images {LABEL}"})
    if _is_folder(writer.catalog, OWN):
        writer.catalog.put_folder(OWN, {"description": LABEL, "made_up": True})
    put_ground(writer, land, frame)
    for each in passes:
        _optical(writer, scenes, each)
    for radar_pass, bands in radar_scenes:
        _radar(writer, scenes, radar_pass, bands)
    digest = hashlib.sha256(json.dumps(writer.hashes, sort_keys=True).encode()).hexdigest()
    facts |= {
        "seed": seed,
        "rows": frame.shape[0],
        "cols": frame.shape[1],
        "sentinel1_scenes": len(radar_scenes),
        "sentinel2_scenes": len(passes),
        "made_up": True,
        "description": LABEL,
    }
    write_json(
        marker,
        {
            **facts,
            "assets_sha256": digest,
            "valley": key,
            "version": VERSION,
            "crs": CRS,
            "latitude": LAT,
            "bounds": bounds(frame.shape),
            "pre": [day.isoformat() for day in PRE],
            "post": [day.isoformat() for day in POST],
            "sites": layout(frame.shape),
            "scene_classes": SCL,
        },
    )
    say(1.0, "valley complete")
    return facts


def _is_folder(catalog: Catalog, asset_id: str) -> bool:
    asset = catalog.get(asset_id)
    return asset is None or (asset.type == "FOLDER" and not asset.properties)
