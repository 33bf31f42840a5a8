"""Own rasters as tiles: GeoTIFFs of any sensor become the files that an export would have left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from thawslump.bands import BANDS, CONTEXT
from thawslump.errors import ConfigError, DataError, StorageError, nearest
from thawslump.files import atomic, sha256, write_json
from thawslump.grid import coarser, grid_over, lonlat_bounds, same_grid
from thawslump.raster import grid_of, open_raster
from thawslump.site import Site
from thawslump.vector import rasterize, read_outlines

if TYPE_CHECKING:
    from thawslump.workspace import Workspace

__all__ = ["Imported", "Source", "import_tiles"]

_STRIP = 256
_CONTEXT_NODATA = 65535
_PLAIN = {"hillshade", "pre_observations", "post_observations"}  # bands that are no reflectance


@dataclass(frozen=True)
class Source:
    """A band of a raster file.

    Attributes
    ----------
    path : Path
    band : int or str
        Number from 1, or the band's description.
    """

    path: Path
    band: int | str = 1


@dataclass(frozen=True)
class Imported:
    """What an import came to.

    Attributes
    ----------
    site : Site
    written : tuple of Path
        Files, the site's YAML last.
    shape : (rows, columns)
    bands : mapping of str to float
        Band of the stack -> share of pixels with a value.
    positives : int
        Pixels inside outlines that have a value; 0 without outlines.
    notes : tuple of str
        What was done to the rasters, in words: warped, shifted, scaled.
    """

    site: Site
    written: tuple[Path, ...]
    shape: tuple[int, int]
    bands: Mapping[str, float]
    positives: int
    notes: tuple[str, ...]


def import_tiles(
    workspace: Workspace,
    name: str,
    bands: Mapping[str, Source],
    *,
    role: str = "area",
    outlines: Path | None = None,
    grid_from: str | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    context: Mapping[str, Source] | None = None,
    context_scale: float = 1.0,
    factors: Mapping[str, Source] | None = None,
    categorical: Sequence[str] = (),
    pre: tuple[str, str] | None = None,
    post: tuple[str, str] | None = None,
    made_up: bool = False,
    progress: Callable[[float, str], None] = lambda fraction, words: None,
) -> Imported:
    """Make the tiles of a site from raster files.

    - The grid is that of the raster `grid_from` if it is projected, north up and of square pixels;
      else, or where `crs` or `resolution` are given, a grid in that CRS (or the UTM zone) over it.
    - Rasters on another grid are warped to it: bilinear, nearest for classes.
    - Nodata values, masks and alpha bands become NaN; scales and offsets are applied.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Of the site; an earlier import of that name is replaced.
    bands : mapping of band name to Source
        Become ``stack.tif`` (float32, NaN missing) in this order.
    role : {"train", "validation", "test", "area"}
    outlines : Path, optional
        Polygons of all slumps of the site; needed unless it is an area.
    grid_from : str, optional
        Name of the band whose raster defines the grid; the first where not given.
    crs : str, optional
    resolution : float, optional
        Pixel size in units of the CRS.
    context : mapping of band name to Source, optional
        What reviewers look at (names of `thawslump.bands.CONTEXT`): become ``context.tif``.
    context_scale : float
        Factor that makes reflectance * 10000 of the values (hillshade is taken as it is).
    factors : mapping of band name to Source, optional
        Conditioning factors: become ``factors.tif`` at 30 m or coarser.
    categorical : sequence of str
        Own bands that hold classes; those that thawslump knows need not be named.
    pre, post : (start, end), optional
        Dates of the images, YYYY-MM-DD; the end is not part of the window.
    made_up : bool
    progress : callable
        Told the fraction done and what is being done.

    Returns
    -------
    Imported

    Raises
    ------
    ConfigError
        A name, role or date that does not fit, or a site of another source has that name.
    DataError
        A raster without a CRS, truncated, without the band, off the grid or without any value;
        outlines that miss the tile or hold no pixel.
    StorageError
        The disk is full or not writable; earlier files stay as they were.
    """
    context, factors = dict(context or {}), dict(factors or {})
    _check_names(bands, context, grid_from, categorical)
    place = _site_file(workspace, name, role)
    grid, notes = _chosen_grid(bands, grid_from, crs, resolution)
    site = _site(workspace, name, role, grid, outlines, pre, post, made_up)
    inside = _positives(outlines, grid, role)

    folder = workspace.tiles(name)
    total = len(bands) + len(context) + len(factors)
    done = 0

    def advance(words: str) -> None:
        nonlocal done
        progress(done / total, words)
        done += 1

    stack = folder / "stack.tif"
    kinds = {b for b in bands if b in categorical or (b in BANDS and BANDS[b].categorical)}

    def some_slump(seen: _Seen) -> None:
        if inside is not None and role != "area" and seen.positives == 0:
            raise DataError(
                f"{outlines}: no slump pixel of {name} has a value in any band.",
                hint="The outlines lie where the rasters have no data; check both in QGIS.",
            )

    seen = _write(
        stack, bands, grid, advance, notes, classes=kinds, inside=inside, check=some_slump
    )
    written = [stack]
    written += _write_context(folder / "context.tif", context, grid, context_scale, advance, notes)
    if factors:
        coarse = coarser(grid, max(30.0, abs(grid.transform.a)))
        known = {f for f in factors if f in categorical}
        _write(folder / "factors.tif", factors, coarse, advance, notes, classes=known)
        written.append(folder / "factors.tif")
    else:
        (folder / "factors.tif").unlink(missing_ok=True)
    written.append(workspace.item(name))
    sources = {"stack": bands, "context": context, "factors": factors}
    _write_item(workspace, site, grid, sources, written[:-1], notes)
    from thawslump.config import save_yaml

    # Last: once the site's file is there, the chain takes its tiles for whole.
    save_yaml(place, site, header="Made by `thawslump tiles import`: own rasters.")
    written.append(place)
    progress(1.0, "done")
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    return Imported(site, tuple(written), shape, seen.valid, seen.positives, tuple(notes))


# What was asked for --------------------------------------------------------------------------


def _check_names(
    bands: Mapping[str, Source],
    context: Mapping[str, Source],
    grid_from: str | None,
    categorical: Sequence[str],
) -> None:
    if not bands:
        raise ConfigError(
            "No band was given.",
            hint="For example: --band dNDVI=change.tif:1 --band slope=slope.tif",
        )
    for band in context:
        if band not in CONTEXT:
            raise ConfigError(
                f'"{band}" is no context band; there are {", ".join(CONTEXT)}.'
                + nearest(band, CONTEXT),
                hint="Bands for the models are given with --band.",
            )
    for band in (*categorical, *([grid_from] if grid_from else [])):
        if band not in bands:
            raise ConfigError(
                f'"{band}" is none of the bands {", ".join(bands)}.' + nearest(band, bands),
                hint="Name one that is given with --band.",
            )


def _site_file(workspace: Workspace, name: str, role: str) -> Path:
    """Return where the site's YAML goes; refuse to replace one that is not from an import."""
    place = workspace.root / ("areas" if role == "area" else "sites") / f"{name}.yaml"
    known = workspace.declared.get(name)
    if known is None:
        return place
    if known.source != "files":
        raise ConfigError(
            f'There is a site "{name}" that is exported from Earth Engine.',
            hint="Choose another name, or remove its file first.",
        )
    if not place.exists():
        raise ConfigError(
            f'"{name}" was imported with the role {known.role}; now it is to be {role}.',
            hint="Remove its old file first: areas lie in areas/, all others in sites/.",
        )
    return place


def _chosen_grid(
    bands: Mapping[str, Source], grid_from: str | None, crs: str | None, resolution: float | None
) -> tuple[GeoBox, list[str]]:
    reference = bands[grid_from or next(iter(bands))].path
    own = grid_of(reference)
    a = own.transform
    metric = not own.crs.proj.is_geographic
    straight = a.b == 0 == a.d and a.a > 0 > a.e and abs(a.a + a.e) <= 1e-6 * a.a
    if crs is None and resolution is None and metric and straight:
        return own, []
    if resolution is None:
        # A degree of latitude has about 111,320 m: pixels keep about their height.
        resolution = float(abs(a.e)) if metric else round(abs(a.e) * 111_320, 1) or 1.0
    grid = grid_over(lonlat_bounds(own), resolution, crs)
    why = (
        "as asked" if metric and straight
        else "its CRS counts in degrees" if not metric else "its pixels are not square and north up"
    )  # fmt: skip
    return grid, [
        f"the grid is {grid.shape[1]} x {grid.shape[0]} pixels of {resolution:g} in {grid.crs}, "
        f"laid over {reference.name} ({why})"
    ]


def _site(
    workspace: Workspace,
    name: str,
    role: str,
    grid: GeoBox,
    outlines: Path | None,
    pre: tuple[str, str] | None,
    post: tuple[str, str] | None,
    made_up: bool,
) -> Site:
    from thawslump.config import parse_model

    if outlines is not None:
        outlines = Path(outlines).resolve()
        if outlines.is_relative_to(workspace.root):
            outlines = outlines.relative_to(workspace.root)
    values: dict[str, Any] = {
        "name": name,
        "role": role,
        "bounds": lonlat_bounds(grid),
        "crs": str(grid.crs),
        "resolution": abs(grid.transform.a),
        "outlines": outlines,
        "source": "files",
        "slope_correction": "none",
        "orbit_pass": None,
        "made_up": made_up,
    }
    for key, window in (("pre", pre), ("post", post)):
        if window is not None:
            values[key] = {"start": window[0], "end": window[1]}
    return parse_model(Site, values, "tiles import")


def _positives(outlines: Path | None, grid: GeoBox, role: str) -> NDArray[np.bool_] | None:
    """Return the pixels inside the outlines, shape of the grid; None without outlines."""
    if outlines is None:
        return None
    frame = read_outlines(outlines, str(grid.crs))
    edges = grid.boundingbox
    touching = frame.cx[edges.left : edges.right, edges.bottom : edges.top]
    if touching.empty:
        west, south, east, north = lonlat_bounds(grid)
        box = frame.to_crs("EPSG:4326").total_bounds
        raise DataError(
            f"{outlines}: none of its {len(frame)} outlines touches the tile. They span "
            f"{box[0]:.4f}..{box[2]:.4f} E, {box[1]:.4f}..{box[3]:.4f} N; the tile "
            f"{west:.4f}..{east:.4f} E, {south:.4f}..{north:.4f} N.",
            hint="Check the CRS of the outlines and of the rasters.",
        )
    inside = rasterize(touching.geometry, grid).astype(bool)
    if not inside.any() and role != "area":
        raise DataError(
            f"{outlines}: {len(touching)} outlines touch the tile, but no pixel centre of "
            f"{abs(grid.transform.a):g} lies in one: there is no slump pixel to learn from.",
            hint="Give a finer --resolution, or outlines that are larger than a pixel.",
        )
    return inside


# Pixels --------------------------------------------------------------------------------------


@dataclass
class _Seen:
    valid: dict[str, float]
    positives: int = 0


def _index(source: rasterio.io.DatasetReader, wanted: Source) -> int:
    """Return the number of a band, from 1."""
    names = [name or f"band{i + 1}" for i, name in enumerate(source.descriptions)]
    if isinstance(wanted.band, int) and 1 <= wanted.band <= source.count:
        return wanted.band
    if wanted.band in names:
        return names.index(wanted.band) + 1
    raise DataError(
        f"{wanted.path} has no band {wanted.band}; it has {source.count}: {', '.join(names)}."
        + nearest(str(wanted.band), names),
        hint="Give its number from 1, or its description: NAME=FILE:BAND",
    )


@contextlib.contextmanager
def _warped(
    wanted: Source, grid: GeoBox, nearest_value: bool
) -> Iterator[Callable[[Window], NDArray[np.float32]]]:
    """Yield a function that reads windows of the grid from a band, as float32 with NaN."""
    own = grid_of(wanted.path)
    with open_raster(wanted.path) as source:
        index = _index(source, wanted)
        scale, offset = source.scales[index - 1], source.offsets[index - 1]
        nodata = source.nodatavals[index - 1]
        options: dict[str, Any] = {
            "crs": grid.crs.to_wkt(),
            "transform": grid.transform,
            "width": grid.shape[1],
            "height": grid.shape[0],
            "resampling": Resampling.nearest if nearest_value else Resampling.bilinear,
            # Of a pixel; the default of GDAL lets positions be an eighth off.
            "tolerance": 0.01,
        }
        if _ratio(own, grid) > 0.8:
            # GDAL takes the box around a turned raster for its size, and would blur.
            options |= {"XSCALE": "1", "YSCALE": "1"}
        if nodata is not None:
            options |= {"src_nodata": nodata, "nodata": float("nan"), "dtype": "float32"}
        elif ColorInterp.alpha not in source.colorinterp:
            # The alpha band says where the warped raster has no source, and where a mask hides it.
            options |= {"add_alpha": True}
        with contextlib.ExitStack() as stack:
            straight = same_grid(own, grid)
            view = source if straight else stack.enter_context(WarpedVRT(source, **options))

            def read(window: Window) -> NDArray[np.float32]:
                try:
                    data = view.read(index, window=window, masked=True)
                except RasterioError as error:
                    raise DataError(
                        f"{wanted.path} is damaged: {error}.",
                        hint="The file is probably truncated; copy or download it again.",
                    ) from error
                values = np.ma.filled(data.astype(np.float32), np.nan)
                if (scale, offset) != (1.0, 0.0):
                    values = values * np.float32(scale) + np.float32(offset)
                return np.asarray(values, np.float32)

            yield read


def _ratio(own: GeoBox, grid: GeoBox) -> float:
    """Return the pixel size of a raster over that of the grid, at the raster's middle."""
    middle, a = own.boundingbox, own.transform
    x, y = (middle.left + middle.right) / 2, (middle.bottom + middle.top) / 2
    to_grid = Transformer.from_crs(own.crs.proj, grid.crs.proj, always_xy=True)
    xs, ys = to_grid.transform([x, x + a.a, x + a.b], [y, y + a.d, y + a.e])
    area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    return float(np.sqrt(area) / abs(grid.transform.a))


def _describe(wanted: Source, grid: GeoBox, band: str, classes: bool) -> str | None:
    """Say how a raster is brought to the grid; None where it lies on it already."""
    own = grid_of(wanted.path)
    if same_grid(own, grid):
        return None
    how = "nearest" if classes else "bilinear"
    if own.crs != grid.crs:
        return f"{band}: {wanted.path.name} was warped from {own.crs} to {grid.crs} ({how})"
    return (
        f"{band}: {wanted.path.name} has pixels of {abs(own.transform.a):g} on another grid and "
        f"was resampled ({how})"
    )


def _overlaps(wanted: Source, grid: GeoBox) -> bool:
    own = grid_of(wanted.path)
    to_grid = Transformer.from_crs(own.crs.proj, grid.crs.proj, always_xy=True)
    box = own.boundingbox
    left, bottom, right, top = to_grid.transform_bounds(
        box.left, box.bottom, box.right, box.top, densify_pts=21
    )
    edges = grid.boundingbox
    return bool(
        left < edges.right and right > edges.left and bottom < edges.top and top > edges.bottom
    )


def _write(
    path: Path,
    bands: Mapping[str, Source],
    grid: GeoBox,
    advance: Callable[[str], None],
    notes: list[str],
    *,
    classes: set[str],
    inside: NDArray[np.bool_] | None = None,
    dtype: str = "float32",
    nodata: float = float("nan"),
    store: Callable[[str, NDArray[np.float32]], NDArray[Any]] = lambda band, values: values,
    check: Callable[[_Seen], None] = lambda seen: None,
) -> _Seen:
    """Write bands on one grid, strip by strip, as a Cloud Optimized GeoTIFF.

    `store` makes the stored values of the read ones; `check` may refuse before the file appears.
    """
    rows, columns = (int(v) for v in grid.shape)
    profile = {
        "driver": "GTiff", "dtype": dtype, "count": len(bands), "height": rows, "width": columns,
        "crs": grid.crs.to_wkt(), "transform": grid.transform, "nodata": nodata,
        "interleave": "band", "bigtiff": "IF_SAFER",
    }  # fmt: skip
    for band, wanted in bands.items():
        said = _describe(wanted, grid, band, band in classes)
        if said is not None:
            notes.append(said)
        if not _overlaps(wanted, grid):
            raise DataError(
                f"{band}: {wanted.path} does not overlap the tile.",
                hint="All rasters of a site must show the same ground; check their CRS.",
            )
    seen = _Seen({})
    anywhere = np.zeros((rows, columns), bool) if inside is not None else None
    with atomic(path) as temporary:
        plain = temporary.with_suffix(".plain.tif")
        try:
            with rasterio.open(plain, "w", **profile) as target:
                target.descriptions = tuple(bands)
                target.units = tuple(BANDS[b].unit if b in BANDS else "" for b in bands)
                for number, (band, wanted) in enumerate(bands.items(), start=1):
                    advance(f"{path.stem}: {band}")
                    target.update_tags(number, source=wanted.path.name)
                    valid = 0
                    with _warped(wanted, grid, band in classes) as read:
                        for row in range(0, rows, _STRIP):
                            window = Window(0, row, columns, min(_STRIP, rows - row))
                            values = read(window)
                            there = np.isfinite(values)
                            valid += int(there.sum())
                            if anywhere is not None:
                                anywhere[row : row + _STRIP] |= there
                            target.write(store(band, values).astype(dtype), number, window=window)
                    if valid == 0:
                        raise DataError(
                            f"{band}: every pixel of band {wanted.band} of {wanted.path} is "
                            "missing (NaN or nodata) on the tile.",
                            hint="Leave the band out, or give a raster with values there.",
                        )
                    seen.valid[band] = valid / (rows * columns)
            if inside is not None and anywhere is not None:
                seen.positives = int((inside & anywhere).sum())
            check(seen)
            copy_raster(
                plain, temporary, driver="COG", compress="ZSTD",
                predictor=3 if dtype == "float32" else 2, blocksize=512, overviews="AUTO",
                resampling="nearest" if classes == set(bands) else "average", bigtiff="IF_SAFER",
            )  # fmt: skip
        except RasterioError as error:
            raise StorageError(
                f"{path} could not be written: {error}. What was there before is unchanged.",
                hint="The disk is probably full or not writable; free space and start again.",
            ) from error
        finally:
            plain.unlink(missing_ok=True)
    return seen


def _write_context(
    path: Path,
    context: Mapping[str, Source],
    grid: GeoBox,
    scale: float,
    advance: Callable[[str], None],
    notes: list[str],
) -> list[Path]:
    """Write what reviewers look at; remove what an earlier import left where nothing is given."""
    if not context:
        path.unlink(missing_ok=True)
        return []
    highest = 0.0

    def store(band: str, values: NDArray[np.float32]) -> NDArray[Any]:
        nonlocal highest
        scaled = values if band in _PLAIN else values * np.float32(scale)
        there = np.isfinite(scaled)
        if band not in _PLAIN and there.any():
            highest = max(highest, float(scaled[there].max()))
        stored = np.clip(np.rint(np.where(there, scaled, 0)), 0, _CONTEXT_NODATA - 1)
        return np.where(there, stored, _CONTEXT_NODATA)

    def check(seen: _Seen) -> None:
        if not set(seen.valid) <= _PLAIN and highest <= 10:
            raise DataError(
                f"The context bands reach {highest:.3g} at most; reflectance * 10000 was expected.",
                hint="Give --context-scale 10000 for reflectance of 0..1.",
            )

    ordered = {band: context[band] for band in CONTEXT if band in context}
    _write(
        path, ordered, grid, advance, notes, classes=set(), dtype="uint16",
        nodata=_CONTEXT_NODATA, store=store, check=check,
    )  # fmt: skip
    if scale != 1.0:
        notes.append(f"context: values were multiplied by {scale:g}")
    return [path]


# Provenance ----------------------------------------------------------------------------------


def _write_item(
    workspace: Workspace,
    site: Site,
    grid: GeoBox,
    sources: Mapping[str, Mapping[str, Source]],
    files: Sequence[Path],
    notes: Sequence[str],
) -> None:
    """Write the STAC item beside the tiles: source files with checksums, what was done to them."""
    from thawslump import __version__

    west, south, east, north = site.bounds
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    windows = [window for window in (site.pre, site.post) if window is not None]
    used: dict[Path, dict[str, Any]] = {}
    for kind, bands in sources.items():
        for band, wanted in bands.items():
            entry = used.setdefault(
                wanted.path,
                {
                    "path": wanted.path.name,
                    "file:checksum": f"1220{sha256(wanted.path)}",
                    "file:size": wanted.path.stat().st_size,
                    "bands": [],
                },
            )
            entry["bands"].append(band if kind == "stack" else f"{band} ({kind})")
    affine: Affine = grid.transform
    properties: dict[str, Any] = {
        "title": f"{site.name}, own rasters" + (", made up" if site.made_up else ""),
        "datetime": None,
        "proj:code": str(grid.crs),
        "proj:shape": [int(v) for v in grid.shape],
        "proj:transform": list(affine[:6]),
        "processing:lineage": "; ".join(
            [*(notes or ["the rasters were taken as they are"]), *([] if windows else ["undated"])]
        ),
        "processing:software": {"thawslump": __version__},
        "thawslump:made_up": site.made_up,
        "thawslump:role": site.role,
        "thawslump:files": list(used.values()),
    }
    # STAC wants a time: without dates, any.
    first = min((str(w.start) for w in windows), default="1900-01-01")
    last = max((str(w.end) for w in windows), default="9999-01-01")
    properties |= {"start_datetime": f"{first}T00:00:00Z", "end_datetime": f"{last}T00:00:00Z"}
    assets = {
        path.stem: {
            "href": f"./{path.name}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "bands": [{"name": band} for band in sources[path.stem]],
            "file:checksum": f"1220{sha256(path)}",
            "file:size": path.stat().st_size,
        }
        for path in files
    }
    write_json(
        workspace.item(site.name),
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [
                "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
                "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
                "https://stac-extensions.github.io/file/v2.1.0/schema.json",
            ],
            "id": site.name,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "bbox": [west, south, east, north],
            "properties": properties,
            "links": [],
            "assets": assets,
        },
    )
