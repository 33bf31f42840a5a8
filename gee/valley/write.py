"""The valley on disk: a catalogue with the real collections' ids, and the truth apart from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from gee.emulator.catalog import BandData, Catalog, Policy
from gee.valley import climate, landcover, maps, slumps
from gee.valley.landscape import Landscape, make
from gee.valley.optical import BANDS, SCL
from gee.valley.place import (
    CRS,
    LABEL,
    OWN,
    POST,
    PRE,
    Frame,
    bounds,
    grid,
    layout,
    random,
)
from gee.valley.scenes import LAT, OpticalPass, RadarPass, Scenes, optical_passes
from thawslump import raster
from thawslump.files import atomic, write_json
from thawslump.vector import rasterize

__all__ = ["VERSION", "build"]

Progress = Callable[[float, str], None]
Six = tuple[float, float, float, float, float, float]

VERSION = 3
"""Raised when equal seeds give another valley than before."""

S1 = "COPERNICUS/S1_GRD"
S2 = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
DEM = "COPERNICUS/DEM/GLO30"
WORLDCOVER = "ESA/WorldCover/v200"
ERA5 = "ECMWF/ERA5_LAND/MONTHLY_AGGR"
TILE = "52WDE"


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)


class _Writer:
    """Puts assets that are not there yet, and knows which are."""

    def __init__(self, root: Path, key: str, total: int, progress: Progress) -> None:
        self.catalog = Catalog(root, writable=True)
        self.key, self.total, self.done = key, total, 0
        self.progress = progress
        self.hashes: dict[str, str] = {}

    def clear(self) -> None:
        """Delete what another valley or a killed run left; other assets stay."""
        for collection in (S1, S2, CLOUD_SCORE, DEM, WORLDCOVER, ERA5, OWN):
            for asset in self.catalog.children(collection):
                known = asset.properties.get("valley")
                unfinished = asset.type == "FOLDER" and not self.catalog.children(asset.id)
                if unfinished or (known is not None and known != self.key):
                    self.catalog.delete(asset.id)

    def step(self, words: str, more: int = 1) -> None:
        self.done += more
        self.progress(min(0.1 + 0.9 * self.done / self.total, 0.999), words)

    def here(self, asset_id: str) -> bool:
        """Return whether the asset is there already, from a run that was cut short."""
        asset = self.catalog.get(asset_id)
        if asset is None or asset.properties.get("valley") != self.key:
            return False
        self.hashes[asset_id] = str(asset.properties["content_sha256"])
        return True

    def _label(self, digest: str) -> dict[str, Any]:
        return {
            "made_up": True,
            "description": LABEL,
            "valley": self.key,
            "content_sha256": digest,
        }

    def image(
        self,
        asset_id: str,
        bands: Sequence[BandData],
        properties: Mapping[str, Any],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        digest = hashlib.sha256()
        for band in bands:
            digest.update(f"{band.id} {band.array.dtype.str} {band.array.shape}".encode())
            digest.update(np.ascontiguousarray(band.array).data)
            if band.mask is not None:
                digest.update(np.ascontiguousarray(band.mask).data)
        code = digest.hexdigest()
        self.catalog.put_image(
            asset_id,
            bands,
            {**properties, **self._label(code)},
            None if start is None else _milliseconds(start),
            None if start is None else _milliseconds(end or start),
        )
        self.hashes[asset_id] = code

    def table(self, asset_id: str, lines: Iterable[tuple[str, BaseGeometry]], kind: str) -> None:
        to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
        features = []
        for number, (name, line) in enumerate(lines):
            there = shapely.transform(
                line, lambda xy: np.round(np.column_stack(to.transform(xy[:, 0], xy[:, 1])), 7)
            )
            features.append(
                {
                    "type": "Feature",
                    "id": f"{number:05d}",
                    "geometry": mapping(there),
                    "properties": {"name": name, "kind": kind, "made_up": True},
                }
            )
        code = hashlib.sha256(json.dumps(features, sort_keys=True).encode()).hexdigest()
        self.catalog.put_table(asset_id, features, self._label(code))
        self.hashes[asset_id] = code


def _band(
    name: str,
    array: NDArray[Any],
    frame: Frame,
    mask: NDArray[np.bool_] | None = None,
    pyramiding: Policy = "MEAN",
) -> BandData:
    return BandData(name, array, CRS, frame.transform, mask, pyramiding)


def _optical(writer: _Writer, scenes: Scenes, each: OpticalPass) -> None:
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
            scores = [_band(name, arrays[name], frames[10], masks[10]) for name in ("cs", "cs_cdf")]
            about = {"system:index": index, "MGRS_TILE": TILE}
            writer.image(score_id, scores, about, each.when)
    if not here:
        bands = [
            _band(name, arrays[name], frames[size], masks[size]) for name, size in BANDS.items()
        ]
        bands.append(_band("SCL", arrays["SCL"], frames[20], masks[20], "MODE"))
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
            "GENERATION_TIME": _milliseconds(each.when),
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


def _radar(writer: _Writer, scenes: Scenes, each: RadarPass, bands: Callable[[], Any]) -> None:
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
            "segmentStartTime": _milliseconds(each.when),
        }
        writer.image(
            asset_id,
            [
                _band("VV", arrays["VV"], scenes.frame),
                _band("VH", arrays["VH"], scenes.frame),
                _band("angle", angle, angle_frame),
            ],
            properties,
            each.when,
            end,
        )
    writer.step(f"Sentinel-1 of {each.when.date()}, {each.direction.lower()}")


def _still(writer: _Writer, land: Landscape, frame: Frame) -> None:
    """Put what does not change: elevation, land cover, climate, ground, lines."""
    box = bounds(frame.shape)
    asset_id = f"{DEM}/Copernicus_DSM_COG_10_N71_00_E129_00_DEM_made_up"
    if not writer.here(asset_id):
        seen = maps.elevation_model(land.dem, random(land.seed, "elevation model"))
        # North of 70 degrees the model's pixels are three times as many seconds wide as high.
        shape, transform = maps.degree_grid(box, (3 / 3600, 1 / 3600), 12)
        height, valid = maps.on_degrees(seen, land.frame, shape, transform, 1)
        band = BandData("DEM", height, "EPSG:4326", transform, valid)
        writer.image(
            asset_id,
            [band],
            {"system:index": asset_id.rsplit("/", 1)[1]},
            datetime(2010, 12, 1, tzinfo=UTC),
            datetime(2015, 1, 31, tzinfo=UTC),
        )
    writer.step("elevation model")

    asset_id = f"{WORLDCOVER}/2021"
    if not writer.here(asset_id):
        classes = landcover.worldcover(land.pre.shares, land.pre.green)
        shape, transform = maps.degree_grid(box, (1 / 12000, 1 / 12000), 4)
        there, valid = maps.on_degrees(classes, land.frame, shape, transform, 0)
        writer.image(
            asset_id,
            [BandData("Map", there, "EPSG:4326", transform, valid, "MODE")],
            {
                "system:index": "2021",
                "Map_class_names": list(landcover.WORLDCOVER.values()),
                "Map_class_values": list(landcover.WORLDCOVER),
            },
            datetime(2021, 1, 1, tzinfo=UTC),
            datetime(2022, 1, 1, tzinfo=UTC),
        )
    writer.step("land cover")

    half = climate.CELL / 2
    west, south, east, north = (edge + half for edge in box)
    shape, transform = maps.degree_grid((west, south, east, north), (climate.CELL, climate.CELL), 1)
    left, top = round(transform[2] - half, 6), round(transform[5] - half, 6)
    transform = (climate.CELL, 0.0, left, 0.0, -climate.CELL, top)
    lons = np.asarray(left + (np.arange(shape[1]) + 0.5) * climate.CELL, np.float64)
    lats = np.asarray(top - (np.arange(shape[0]) + 0.5) * climate.CELL, np.float64)
    for year, month in climate.months():
        asset_id = f"{ERA5}/{year}{month:02d}"
        if writer.here(asset_id):
            continue
        values = climate.monthly(land.seed, year, month, lats, lons)
        start = datetime(year, month, 1, tzinfo=UTC)
        end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        writer.image(
            asset_id,
            [BandData(name, array, "EPSG:4326", transform) for name, array in values.items()],
            {"system:index": f"{year}{month:02d}", "year": year, "month": month},
            start,
            end,
        )
    writer.step("climate")

    _ancillary(writer, land, box)

    coarse = frame.coarser(10)
    if not writer.here(f"{OWN}/permafrost"):
        inner = land.inner
        ice = _blocks(land.ice[inner], 10)
        warmth = _blocks(maps.ground_temperature(land.ground, land.ice)[inner], 10)
        kind = np.digitize(ice, [0.2, 0.35, 0.5, 0.65]).astype(np.uint8) + 1
        writer.image(
            f"{OWN}/permafrost",
            [
                _band("ice_content", np.asarray(100 * ice, np.float32), coarse),
                _band("ground_temperature", warmth, coarse),
                _band("class", kind.astype(np.uint8), coarse, None, "MODE"),
            ],
            {
                "units": "ice_content: percent of volume; ground_temperature: degrees Celsius",
                "class_names": [
                    "ice-poor (< 20 %)",
                    "low (20-35 %)",
                    "medium (35-50 %)",
                    "high (50-65 %)",
                    "very high (> 65 %)",
                ],
                "class_values": [1, 2, 3, 4, 5],
            },
        )
    if not writer.here(f"{OWN}/lithology"):
        rock = land.rock[land.inner][5::10, 5::10]
        full = np.full(coarse.shape, rock[-1, -1], np.uint8)
        full[: rock.shape[0], : rock.shape[1]] = rock
        full[rock.shape[0] :] = full[rock.shape[0] - 1]
        full[:, rock.shape[1] :] = full[:, rock.shape[1] - 1 : rock.shape[1]]
        writer.image(
            f"{OWN}/lithology",
            [_band("class", full, coarse, None, "MODE")],
            {
                "class_names": list(landcover.LITHOLOGY.values()),
                "class_values": list(landcover.LITHOLOGY),
            },
        )
    area = shapely.box(
        frame.left,
        frame.top - frame.shape[0] * frame.pixel,
        frame.left + frame.shape[1] * frame.pixel,
        frame.top,
    )
    for name, lines in land.lines.items():
        if not writer.here(f"{OWN}/{name}"):
            cut = [(label, line.intersection(area)) for label, line in lines]
            writer.table(
                f"{OWN}/{name}", [(n, g) for n, g in cut if not g.is_empty], name.removesuffix("s")
            )
    writer.step("permafrost, lithology, roads, rivers, faults")


def _ancillary(writer: _Writer, land: Landscape, box: tuple[float, float, float, float]) -> None:
    """Put the climate classes and the canopy heights of the pre year."""
    if not writer.here(f"{OWN}/koeppen_geiger"):
        warmest = maps.warmest_month(land.ground, random(land.seed, "warmest month"))
        cell = climate.KOEPPEN_CELL
        shape, transform = maps.degree_grid(box, (cell, cell), 1)
        there, _ = maps.on_degrees(warmest, land.frame, shape, transform, 1)
        classes = climate.koeppen(np.asarray(there, np.float32))
        writer.image(
            f"{OWN}/koeppen_geiger",
            [BandData("class", classes, "EPSG:4326", transform, None, "MODE")],
            {"class_names": list(climate.KOEPPEN.values()), "class_values": list(climate.KOEPPEN)},
        )
    if not writer.here(f"{OWN}/canopy_height"):
        shrub, sedge = (land.pre.shares[index] for index in (landcover.SHRUB, landcover.SEDGE))
        height = maps.canopy_height(shrub, sedge, random(land.seed, "canopy height"))
        shape, transform = maps.degree_grid(box, (1 / 4000, 1 / 4000), 4)
        there, valid = maps.on_degrees(height, land.frame, shape, transform, 0)
        writer.image(
            f"{OWN}/canopy_height",
            [BandData("height", there, "EPSG:4326", transform, valid)],
            {"units": "height: metres"},
        )
    writer.step("climate classes, canopy height")


def _blocks(array: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    from gee.valley.optical import coarsen

    return coarsen(array, factor)


def _truth(root: Path, land: Landscape, frame: Frame) -> dict[str, Any]:
    """Write truth/: outlines, raster, susceptibility, look-alikes. Return facts."""
    import geopandas
    import pyogrio

    # The driver would store the time of writing: equal valleys have equal files.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2020-01-01T00:00:00.000Z"})
    label = {"made_up": "true", "description": LABEL}

    def activity(slump: slumps.Slump) -> str:
        return "reactivated" if slump.grown > 0 else "active"

    whole = geopandas.GeoDataFrame(
        [
            {
                "id": s.id,
                "area": round(s.area, 2),
                "activity": activity(s),
                "part": "whole",
                "freshness": round(s.freshness, 4),
                "direction": round(s.downhill, 2),
                "made_up": True,
                "description": LABEL,
                "geometry": s.outline,
            }
            for s in land.slumps
        ],
        columns=[
            "id",
            "area",
            "activity",
            "part",
            "freshness",
            "direction",
            "made_up",
            "description",
            "geometry",
        ],
        geometry="geometry",
        crs=CRS,
    )
    parts = geopandas.GeoDataFrame(
        [
            {
                "id": s.id,
                "area": round(part.area, 2),
                "activity": activity(s),
                "part": name,
                "made_up": True,
                "description": LABEL,
                "geometry": _polygons(part),
            }
            for s in land.slumps
            for name, part in s.parts.items()
            if not _polygons(part).is_empty
        ],
        columns=["id", "area", "activity", "part", "made_up", "description", "geometry"],
        geometry="geometry",
        crs=CRS,
    )
    # One layer per file: readers warn where they have to choose.
    for layer, table in (("slumps", whole), ("parts", parts)):
        with atomic(root / f"{layer}.gpkg") as temporary:
            pyogrio.write_dataframe(
                table, temporary, layer=layer, driver="GPKG", layer_metadata=label
            )
    mask = rasterize([s.outline for s in land.slumps], frame.geobox)
    inner = land.inner
    raster.write_cog(
        root / "truth.tif",
        mask[None],
        frame.geobox,
        ["slump"],
        nodata=None,
        sources=["gee.valley"],
        tags=label,
        categorical=True,
    )
    raster.write_cog(
        root / "susceptibility_truth.tif",
        np.ascontiguousarray(land.susceptibility[inner])[None],
        frame.geobox,
        ["probability"],
        nodata=float("nan"),
        units=["expected share of the pixel covered by slumps"],
        sources=["gee.valley"],
        tags=label,
    )
    raster.write_cog(
        root / "distractors.tif",
        np.ascontiguousarray(land.distractors[inner])[None],
        frame.geobox,
        ["look-alike"],
        nodata=0,
        sources=["gee.valley"],
        tags={**label, "classes": json.dumps(landcover.DISTRACTORS)},
        categorical=True,
    )
    areas = [s.area for s in land.slumps]
    exponent, error = slumps.fit_exponent(areas)
    return {
        "slumps": len(areas),
        "slump_hectares": round(sum(areas) / 1e4, 2),
        "slump_share": round(float(mask.mean()), 5),
        "old_scars": len(land.scars),
        "exponent": slumps.EXPONENT,
        "exponent_fitted": round(exponent, 3),
        "exponent_error": round(error, 3),
    }


def _sweep(root: Path) -> None:
    """Remove the temporary files of processes that were killed (`thawslump.files.atomic`)."""
    import psutil

    for path in root.glob("**/.*.tmp*"):
        found = re.search(r"\.(\d+)\.tmp", path.name)
        if found is not None and path.is_file() and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    """Keep the polygons of a shape: cutting leaves stray lines and points."""
    kept = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and p.area > 0.01]
    return shapely.MultiPolygon(kept)


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
    facts = _truth(truth_root, land, frame)
    say(0.1, "truth")
    passes = optical_passes(seed)
    radar_scenes = list(scenes.radar_lazy())
    writer = _Writer(catalog_root, key, len(passes) + len(radar_scenes) + 5, say)
    writer.clear()
    for collection in (S1, S2, CLOUD_SCORE, DEM, WORLDCOVER, ERA5):
        if writer.catalog.get(collection) is None or _is_folder(writer.catalog, collection):
            writer.catalog.put_collection(collection, {"description": f"images {LABEL}"})
    if _is_folder(writer.catalog, OWN):
        writer.catalog.put_folder(OWN, {"description": LABEL, "made_up": True})
    _still(writer, land, frame)
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
