"""The work of the steps import, labels and candidates: files in, files and inventory rows out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from inventory.candidates import Collector, Outline, is_known, teaching_score
from inventory.labels import NOT_LOOKED_AT, reviewed_labels, whole_labels
from inventory.records import Candidate, areas, as_feature, canonical_geometry, stable_id, with_rank
from inventory.seams import Found, columns_of, join
from inventory.store import Inventory
from thawslump.errors import ConfigError, DataError
from thawslump.files import atomic, write_text
from thawslump.grid import lonlat_bounds, lonlat_box, metres_per_pixel
from thawslump.mosaic import write_vrt
from thawslump.raster import grid_of, read_float, write_cog
from thawslump.vector import from_lonlat, read_outlines, to_lonlat

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox
    from shapely.geometry import MultiPolygon
    from shapely.geometry.base import BaseGeometry

    from thawslump.areas import Mosaic
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["bring_outlines", "candidates", "export_slumps", "import_outlines", "labels"]

_MAP = ("probability", "disagreement", "filled")
_STRIP = 4_000_000  # pixels that are worked on at a time, about 70 bytes each
Progress = Callable[[float, str], None]


def _write_features(path: Path, features: Sequence[Mapping[str, Any]], **members: Any) -> None:
    """Write GeoJSON with one feature a line: small, and `diff` shows what differs."""
    head = json.dumps({"type": "FeatureCollection", **members}, sort_keys=True)[:-1]
    lines = ",\n".join(json.dumps(feature, sort_keys=True) for feature in features)
    write_text(path, f'{head}, "features": [\n{lines}\n]}}\n')


def _span(bounds: tuple[float, float, float, float]) -> str:
    west, south, east, north = bounds
    return f"{west:.4f}..{east:.4f} E, {south:.4f}..{north:.4f} N"


def import_outlines(item: Item, workspace: Workspace, progress: Progress) -> dict[str, int]:
    """Bring the outlines that touch a site into the inventory.

    Raises
    ------
    DataError
        The file cannot be read, or none of its outlines touches the site.
    """
    site, made_up = item.settings["site"], item.settings["made_up"]
    shapes, changed = bring_outlines(
        workspace,
        site,
        item.inputs[0],
        bounds=tuple(item.settings["bounds"]),
        made_up=made_up,
        source=item.settings["source"],
    )
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.orient_polygons(shape)),
            "properties": {"site": site, "made_up": made_up},
        }
        for shape in shapes
    ]
    features.sort(key=lambda feature: json.dumps(feature["geometry"]))
    _write_features(item.outputs[0], features)
    return {"outlines": len(shapes), "changed": changed}


def bring_outlines(
    workspace: Workspace,
    site: str,
    path: Path,
    *,
    bounds: tuple[float, float, float, float],
    made_up: bool,
    source: str,
) -> tuple[list[MultiPolygon], int]:
    """Bring the outlines of a file that touch a site into the inventory.

    Parameters
    ----------
    workspace : Workspace
    site : str
    path : Path
        Any vector file with polygons.
    bounds : (west, south, east, north)
        Of the site, in degrees; west above east crosses the antimeridian.
    made_up : bool
    source : str
        Kept with every outline.

    Returns
    -------
    (list of MultiPolygon, int)
        The outlines (EPSG:4326), and how many came or went.

    Raises
    ------
    DataError
        The file cannot be read, or none of its outlines touches the site.
    """
    frame = read_outlines(path, "EPSG:4326")
    inside: GeoDataFrame = frame[frame.intersects(lonlat_box(bounds))].reset_index(drop=True)
    if inside.empty:
        raise DataError(
            f"{path}: none of its {len(frame)} outlines lies on the site {site}. They span "
            f"{_span(tuple(frame.total_bounds))}; the site spans {_span(bounds)}.",
            hint="Check the bounds in the site's file, and the CRS of the outlines.",
        )
    changed = Inventory(workspace.inventory).import_outlines(
        site, inside, source=source, made_up=made_up
    )
    return [canonical_geometry(g) for g in inside.geometry], changed


def export_slumps(path: Path, target: Path) -> int:
    """Write the slumps of an inventory as GeoJSON, GeoParquet or GeoPackage; return how many.

    Raises
    ------
    ConfigError
        The name of the file ends in something else.
    DataError
        There is no inventory.
    """
    suffix = target.suffix.lower()
    if suffix not in (".geojson", ".json", ".parquet", ".geoparquet", ".gpkg"):
        raise ConfigError(
            f"{target} ends in {suffix or 'nothing'}; the ending says which format is written.",
            hint="Use .geojson, .parquet or .gpkg.",
        )
    if not path.exists():
        raise DataError(f"{path} does not exist yet.", hint="Run `thawslump run` first.")
    slumps = Inventory(path).slumps()
    with atomic(target) as temporary:
        if suffix in (".parquet", ".geoparquet"):
            slumps.to_parquet(temporary, write_covering_bbox=True, schema_version="1.1.0")
        elif suffix == ".gpkg":
            slumps.to_file(temporary, layer="slumps", driver="GPKG", engine="pyogrio")
        else:
            slumps.to_file(temporary, driver="GeoJSON", engine="pyogrio", RFC7946=True)
    return len(slumps)


def _on(frame: GeoDataFrame, grid: GeoBox) -> list[BaseGeometry]:
    return from_lonlat(list(frame.geometry), str(grid.crs))


def _projected(shapes: list[Any], grid: GeoBox) -> list[BaseGeometry]:
    return from_lonlat(shapes, str(grid.crs))


def labels(item: Item, workspace: Workspace, progress: Progress) -> dict[str, int]:
    """Write ``labels.tif`` of a site, as the inventory was before the round.

    Raises
    ------
    DataError
        The site's outlines miss the tile, or none holds the centre of a pixel.
    """
    site, round = item.settings["site"], item.settings["round"]
    grid = grid_of(item.inputs[0])
    inventory = Inventory(workspace.inventory)
    area = item.settings.get("area", site)
    slumps = inventory.slumps(area, before=round)
    shapes = _on(slumps, grid)
    if item.settings["whole"]:
        array = whole_labels(shapes, grid)
        if not (array == 1).any():
            raise _nothing_hit(site, slumps, shapes, grid)
    else:
        decided = inventory.candidates(site=area, before=round)
        array = reviewed_labels(
            shapes,
            _projected([c.geometry for c in decided if c.state == "rejected"], grid),
            _projected([c.geometry for c in decided if c.state == "unsure"], grid),
            grid,
            ring=item.settings["ring"],
        )
        _only_own(array, workspace, site, grid)
    write_cog(
        item.outputs[0],
        array[None],
        grid,
        ("label",),
        nodata=255,
        units=("1",),
        tags={
            "classes": "0 no slump, 1 slump, 255 not looked at",
            "made_up": str(workspace.sites[site].made_up).lower(),
        },
        categorical=True,
    )
    return {
        "slump_pixels": int((array == 1).sum()),
        "other_pixels": int((array == 0).sum()),
        "not_looked_at": int((array == 255).sum()),
    }


def _only_own(array: NDArray[np.uint8], workspace: Workspace, site: str, grid: GeoBox) -> None:
    """Take away what another zone answers for: no place is learnt from twice."""
    zone = workspace.mosaics.get(getattr(workspace.sites[site], "mosaic", ""))
    if zone is None or not any(zone.inner):
        return
    start, stop = columns_of(zone, grid, 0, grid.shape[0], margin=0)
    columns = np.arange(grid.shape[1])
    array[(columns < start[:, None]) | (columns >= stop[:, None])] = NOT_LOOKED_AT


def _nothing_hit(
    site: str, slumps: GeoDataFrame, shapes: list[BaseGeometry], grid: GeoBox
) -> DataError:
    box = shapely.box(*grid.boundingbox.bbox)
    touching = sum(shape.intersects(box) for shape in shapes)
    if touching:
        size = metres_per_pixel(grid)
        return DataError(
            f"Site {site}: no positive pixel. {touching} outlines touch the tile, but none holds "
            f"the centre of a {size:g} m pixel.",
            hint="The outlines are smaller than a pixel or only touch the edge; "
            "take a finer resolution or other outlines.",
        )
    return DataError(
        f"Site {site}: the labels miss the tile. The {len(slumps)} outlines span "
        f"{_span(tuple(slumps.total_bounds))}; the tile spans {_span(lonlat_bounds(grid))}.",
        hint="Check the CRS of the outlines and the bounds in the site's file.",
    )


def _threshold(path: Path) -> float:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["threshold"]
    except (OSError, ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise DataError(
            f'{path} has no "threshold" between 0 and 1, so outlines cannot be drawn.',
            hint="Run the step ensemble again, or set candidates.threshold in thawslump.yaml.",
        )
    return float(value)


def candidates(item: Item, workspace: Workspace, progress: Progress) -> dict[str, int | float]:
    """Draw the outlines of a round, leave out what is known, order the rest, and keep them."""
    config = item.settings["candidates"]
    round = item.settings["round"]
    threshold = config["threshold"] or _threshold(item.inputs[-1])
    inventory = Inventory(workspace.inventory)
    slumps = inventory.slumps(before=round)
    decided = [c for c in inventory.candidates(before=round) if c.state in ("rejected", "unsure")]
    drafts: list[Candidate] = []
    found_count = 0
    for site, grid, found in _found(item, workspace, threshold, progress):
        found_count += len(found)
        shapes = [outline.geometry for outline in found]
        old = is_known(
            shapes,
            _on(slumps, grid),
            covered=config["covered"],
            contains=config["contains"],
        ) | is_known(
            shapes,
            _projected([c.geometry for c in decided], grid),
            covered=config["rejected"],
            contains=np.inf,
        )
        new = [outline for outline, known in zip(found, old, strict=True) if not known]
        lonlat = to_lonlat([outline.geometry for outline in new], str(grid.crs))
        lonlat = [canonical_geometry(shape) for shape in lonlat]
        for outline, shape, area in zip(new, lonlat, areas(lonlat), strict=True):
            drafts.append(
                Candidate(
                    candidate_id=stable_id(round, site, shape),
                    round=round,
                    site=site,
                    rank=0,
                    geometry=shape,
                    probability_mean=outline.probability_mean,
                    probability_max=outline.probability_max,
                    disagreement=outline.disagreement,
                    filled=outline.filled,
                    area_m2=area,
                    score=0.0,
                    made_up=item.settings["made_up"][site],
                )
            )
    ranked = _ranked(drafts, threshold)
    for site in item.settings["areas"]:
        inventory.add_candidates(round, site, [c for c in ranked if c.site == site])
    # Written last: while this file is missing, the step is not done and runs again.
    _write_features(
        item.outputs[0],
        [as_feature(candidate) for candidate in ranked],
        round=round,
        threshold=threshold,
    )
    return {
        "candidates": len(ranked),
        "outlines": found_count,
        "known": found_count - len(ranked),
        "threshold": threshold,
    }


def _found(
    item: Item, workspace: Workspace, threshold: float, progress: Progress
) -> Iterator[tuple[str, GeoBox, list[Outline]]]:
    """Yield the outlines of each area; those of a large one by zone, none twice."""
    config, round = item.settings["candidates"], item.settings["round"]
    for number, site in enumerate(item.settings["areas"]):
        progress(number / len(item.settings["areas"]), site)
        zones = workspace.zones(site)
        if not zones:
            path = workspace.map(round, site)
            grid, found, seen = _outlines_of(path, threshold, config)
            if not seen:
                raise _nothing_seen(path)
            yield site, grid, found
            continue
        drawn, seen = [], False
        for zone in zones:
            maps = [workspace.map(round, part) for part in zone.names]
            maps = [path for path in maps if path in item.inputs]
            if not maps:
                continue
            path = workspace.map(round, zone.name)
            write_vrt(path, maps, zone.grid())
            grid, found, some = _outlines_of(path, threshold, config, zone)
            seen = seen or some
            drawn.append(Found(zone, grid, found))
        if not seen:
            raise _nothing_seen(path)
        for grid, found in join(drawn, minimum_area=config["minimum_area"]):
            yield site, grid, found


def _outlines_of(
    path: Path, threshold: float, config: Mapping[str, Any], zone: Mosaic | None = None
) -> tuple[GeoBox, list[Outline], bool]:
    """Read a map strip by strip; return its grid, its outlines, and whether it has any value."""
    grid = grid_of(path)
    height, width = grid.shape
    pixel = metres_per_pixel(grid) ** 2
    collector = Collector(
        grid.transform,
        threshold=threshold,
        minimum_pixels=max(1, math.ceil(config["minimum_area"] / pixel - 1e-9)),
        hole_pixels=int(config["hole_area"] / pixel + 1e-9),
        smoothing=config["smoothing"],
    )
    rows = max(64, _STRIP // width)
    seen = False
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first, last = max(0, top - collector.halo), min(height, bottom + collector.halo)
        strip = read_float(path, _MAP, Window(0, first, width, last - first)).array
        if zone is not None and any(zone.inner):
            start, stop = columns_of(zone, grid, first, last)
            columns = np.arange(width)
            strip[:, (columns < start[:, None]) | (columns >= stop[:, None])] = np.nan
        seen = seen or bool(np.isfinite(strip[0]).any())
        collector.add(*strip, above=top - first, below=last - bottom)
    return grid, collector.finish(), seen


def _nothing_seen(path: Path) -> DataError:
    return DataError(
        f"{path}: every pixel is nodata, so no outline can be drawn.",
        hint="Look at the tile that it was predicted from: its bands are all missing.",
    )


def _ranked(drafts: list[Candidate], threshold: float) -> list[Candidate]:
    from dataclasses import replace

    scores = teaching_score(
        np.array([c.probability_mean for c in drafts]),
        np.array([c.disagreement for c in drafts]),
        np.array([c.area_m2 for c in drafts]),
        threshold=threshold,
    )
    # Rounded before ranking, so that the last bits of a sum cannot change the order of review.
    return with_rank(
        replace(c, score=round(float(s), 6)) for c, s in zip(drafts, scores, strict=True)
    )
