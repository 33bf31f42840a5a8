"""What is true of a valley, apart from the catalogue: outlines, rasters, and facts about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from gee.valley import landcover, slumps
from gee.valley.landscape import Landscape
from gee.valley.place import CRS, LABEL, Frame
from thawslump import raster
from thawslump.files import atomic
from thawslump.vector import rasterize

__all__ = ["write_truth"]


def write_truth(root: Path, land: Landscape, frame: Frame) -> dict[str, Any]:
    """Write outlines, raster, susceptibility and look-alikes.

    Parameters
    ----------
    root : Path
        Folder for slumps.gpkg, parts.gpkg, truth.tif, susceptibility_truth.tif, distractors.tif.
    land : Landscape
    frame : Frame
        The catalogued area.

    Returns
    -------
    dict
        Numbers and areas of the slumps, for valley.json and the ledger.
    """
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


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    """Keep the polygons of a shape: cutting leaves stray lines and points."""
    kept = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and p.area > 0.01]
    return shapely.MultiPolygon(kept)
