"""What does not change in a valley: elevation, land cover, climate, canopy, ground, lines."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import shapely

from gee.emulator.catalog import BandData
from gee.valley import climate, landcover, maps
from gee.valley.landscape import Landscape
from gee.valley.optical import coarsen
from gee.valley.place import OWN, Frame, bounds, random
from gee.valley.writer import DEM, ERA5, WORLDCOVER, Writer, band_data

__all__ = ["put_ground"]


def put_ground(writer: Writer, land: Landscape, frame: Frame) -> None:
    """Put the assets that do not change between the summers.

    Parameters
    ----------
    writer : Writer
    land : Landscape
    frame : Frame
        The catalogued area, without the margin of `land`.
    """
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
        ice = coarsen(land.ice[inner], 10)
        warmth = coarsen(maps.ground_temperature(land.ground, land.ice)[inner], 10)
        kind = np.digitize(ice, [0.2, 0.35, 0.5, 0.65]).astype(np.uint8) + 1
        writer.image(
            f"{OWN}/permafrost",
            [
                band_data("ice_content", np.asarray(100 * ice, np.float32), coarse),
                band_data("ground_temperature", warmth, coarse),
                band_data("class", kind.astype(np.uint8), coarse, None, "MODE"),
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
            [band_data("class", full, coarse, None, "MODE")],
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


def _ancillary(writer: Writer, land: Landscape, box: tuple[float, float, float, float]) -> None:
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
