"""Pictures of a site: images with legends, outlines as paths, candidates as chips."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.evaluation import newest
from thawslump.results import Results
from thawslump.susceptibility_pictures import (
    HATCH,
    HATCH_KEY,
    class_colours,
    class_words,
    hatched,
    hex_colours,
)
from thawslump.susceptibility_results import model_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = [
    "Chip",
    "Layer",
    "Outline",
    "SiteMap",
    "mercator_overlay",
    "shown_sites",
    "site_map",
]

_LONGEST = 1000
"""Longer side of an image in pixels; larger rasters are thinned."""


@dataclass(frozen=True)
class Layer:
    """An image of a site with its legend.

    Attributes
    ----------
    key, title, caption : str
    uri : str
        The image as a data URI.
    ramp : tuple of str
        Colours from low to high; empty for images without a scale.
    low, high : str
        Ends of the scale.
    classes : tuple of (colour, words)
        For images of classes.
    pixelated : bool
        Shown without smoothing.
    dates : str
        Window of the images; empty where there is none.
    """

    key: str
    title: str
    caption: str
    uri: str
    ramp: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    classes: tuple[tuple[str, str], ...] = ()
    pixelated: bool = False
    dates: str = ""


@dataclass(frozen=True)
class Outline:
    """An outline on a map: `kind` is known, accepted, rejected, unsure or open.

    `words` are shown where one points at it, `chip` below its picture (empty: no picture); `box`
    is left, top, width, height in pixels.
    """

    kind: str
    path: str
    words: str
    box: tuple[float, float, float, float]
    chip: str = ""
    order: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chip:
    """A candidate, cut out of the images of its site."""

    outline: Outline
    view: str
    words: str


@dataclass(frozen=True)
class SiteMap:
    """All pictures of a site, in pixels of its grid."""

    name: str
    role: str
    width: int
    height: int
    crs: str
    resolution: float
    layers: tuple[Layer, ...]
    backgrounds: tuple[str, ...]
    outlines: tuple[Outline, ...]
    counts: Mapping[str, int]
    bar_words: str
    bar_length: float
    round: int
    background: str
    positions: Mapping[str, int]
    chips: tuple[Chip, ...]
    chip_metres: str
    candidates: int

    @property
    def shape(self) -> str:
        """How its pictures are laid out: "tall", "wide" or "even"."""
        if self.height > 1.5 * self.width:
            return "tall"
        return "wide" if self.width > 2.2 * self.height else "even"

    @property
    def display(self) -> int:
        """Width of the large map on the screen, in CSS pixels."""
        if self.shape == "tall":
            return min(320, int(1100 * self.width / self.height))
        fitting = int(760 * self.width / self.height)
        return 1064 if fitting > 900 else fitting


def shown_sites(workspace: Workspace) -> list[Site]:
    """Return the sites with pictures: areas first, then test sites, then others; at most eight.

    A large area is shown by its mosaics.
    """
    order = {"area": 0, "test": 1, "validation": 2, "train": 3}
    with_files = [
        workspace.site(name)
        for declared in workspace.declared
        for name in workspace.views(declared)
        if workspace.context(name).exists() or workspace.stack(name).exists()
    ]
    with_files.sort(key=lambda site: (order[site.role], site.name))
    mapped = [site for site in with_files if site.role in ("area", "test")]
    return (mapped or with_files)[:8]


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _read_small(path: Path, bands: Sequence[str]) -> tuple[NDArray[np.float32], GeoBox] | None:
    """Read bands as float32 (NaN missing), thinned to a picture; None where one is absent."""
    import numpy as np
    import rasterio

    from thawslump import raster

    if not path.exists():
        return None
    with raster.open_raster(path) as source:
        names = [d or f"band{i + 1}" for i, d in enumerate(source.descriptions)]
        if any(band not in names for band in bands):
            return None
        index = [names.index(band) + 1 for band in bands]
        step = max(1.0, max(source.shape) / _LONGEST)
        shape = (len(index), round(source.height / step), round(source.width / step))
        # Overviews of the file are used, so a large raster costs no more than a small one.
        data = source.read(
            index, out_shape=shape, masked=True, resampling=rasterio.enums.Resampling.average
        )
        scales = np.array([source.scales[i - 1] for i in index], np.float32)[:, None, None]
        offsets = np.array([source.offsets[i - 1] for i in index], np.float32)[:, None, None]
        array = np.ma.filled(data.astype(np.float32), np.nan) * scales + offsets
        return array, raster.grid_of(path)


def _hex(colours: NDArray[np.uint8], count: int = 12) -> tuple[str, ...]:
    import numpy as np

    chosen = colours[np.linspace(0, len(colours) - 1, count).astype(int)]
    return tuple("#" + "".join(f"{int(v):02x}" for v in colour) for colour in chosen)


def site_map(workspace: Workspace, site: Site, results: Results) -> SiteMap:
    from thawslump import raster
    from thawslump.figures import scale_bar

    name = site.name
    first = next(p for p in (workspace.context(name), workspace.stack(name)) if p.exists())
    grid = raster.grid_of(first)
    rows, columns = (int(v) for v in grid.shape)
    number, map_path = next(
        (
            (n, workspace.map(n, name))
            for n in range(results.round, 0, -1)
            if workspace.map(n, name).exists()
        ),
        (0, None),
    )
    layers = _true_colour(workspace, site)
    layers += _value_layers(workspace, site, map_path, number)
    layers += _error_layer(workspace, site, results, map_path, number)
    layers += _susceptibility_layer(workspace, site, results)
    outlines = _outlines(workspace, site, grid, results)
    share = 0.4 if rows > columns else 0.25
    bar_words, bar_length = scale_bar(_metres(grid), columns, share)
    counts: dict[str, int] = {}
    for outline in outlines:
        counts[outline.kind] = counts.get(outline.kind, 0) + 1
    keys = [layer.key for layer in layers]
    backgrounds = tuple(
        key for key in ("after", "before", "relief", "dndvi", "band", "probability") if key in keys
    )
    side, chips = _chips([o for o in outlines if o.chip], rows, columns, _metres(grid))
    return SiteMap(
        name=name,
        role=site.role,
        width=columns,
        height=rows,
        crs=str(grid.crs) if grid.crs.to_epsg() else grid.crs.proj.name,
        resolution=abs(grid.transform.a),
        layers=tuple(layers),
        backgrounds=backgrounds,
        outlines=tuple(outlines),
        counts=counts,
        bar_words=bar_words,
        bar_length=bar_length,
        round=number,
        background=backgrounds[0] if backgrounds else "",
        positions={key: place for place, key in enumerate(keys)},
        chips=chips if {"before", "after"} & set(backgrounds) else (),
        chip_metres=f"{side * _metres(grid):.0f}",
        candidates=sum(bool(o.chip) for o in outlines),
    )


_CHIPS = 24
_STATES = {"open": "waiting"}


def _chips(
    outlines: Sequence[Outline], rows: int, columns: int, metres: float
) -> tuple[float, tuple[Chip, ...]]:
    """Return the usual side in pixels, and the windows of the first candidates."""
    if not outlines:
        return 0.0, ()
    shown = outlines[:_CHIPS]
    sizes = sorted(max(o.box[2], o.box[3]) for o in shown)
    # Room for nine in ten.
    side = min(float(max(24, math.ceil(2.0 * sizes[int(0.9 * (len(sizes) - 1))]))), rows, columns)
    chips = []
    for outline in shown:
        # The few that are larger than the others get a wider chip, which is said below it.
        size = max(outline.box[2], outline.box[3])
        own = side if size < 0.9 * side else min(float(math.ceil(1.25 * size)), rows, columns)
        x = outline.box[0] + outline.box[2] / 2 - own / 2
        y = outline.box[1] + outline.box[3] / 2 - own / 2
        x, y = min(max(x, 0.0), columns - own), min(max(y, 0.0), rows - own)
        words = outline.chip
        if own != side:
            words += f"; chip {own * metres:.0f}\u00a0m wide"
        chips.append(Chip(outline, f"{x:.1f} {y:.1f} {own:g} {own:g}", words))
    return side, tuple(chips)


def _metres(grid: GeoBox) -> float:
    crs = grid.crs.proj
    return abs(grid.transform.a) * float(crs.axis_info[0].unit_conversion_factor)


def _true_colour(workspace: Workspace, site: Site) -> list[Layer]:
    import numpy as np

    from thawslump.figures import jpeg, stretch, stretch_limits

    path = workspace.context(site.name)
    found = {
        when: _read_small(path, [f"{when}_{c}" for c in ("red", "green", "blue")])
        for when in ("pre", "post")
    }
    known = {when: pair[0] for when, pair in found.items() if pair is not None}
    layers = []
    if known:
        low, high = stretch_limits(list(known.values()))
        # One stretch for the three colours keeps their balance.
        low, high = np.full(3, low.min()), np.full(3, high.max())
        for when, key, title in (("pre", "before", "Before"), ("post", "after", "After")):
            if when not in known:
                continue
            window = site.pre if when == "pre" else site.post
            layers.append(
                Layer(
                    key,
                    f"{title}, true colour",
                    "Same contrast stretch before and after.",
                    _uri(jpeg(stretch(known[when], low, high, gamma=0.75)), "jpeg"),
                    dates=str(window) if window else "",
                )
            )
    relief = _read_small(path, ["hillshade"])
    if relief is not None and np.isfinite(relief[0]).any():
        low, high = stretch_limits([relief[0]])
        shaded = stretch(relief[0], low, high)
        # Lifted towards white, so that outlines stand out.
        layers.append(
            Layer("relief", "Relief", "Hillshade.",
                  _uri(jpeg((96 + shaded * (159 / 255)).astype(np.uint8), 85), "jpeg"))
        )  # fmt: skip
    return layers


def _value_layers(
    workspace: Workspace, site: Site, map_path: Path | None, number: int
) -> list[Layer]:
    import numpy as np
    from rasterio.windows import Window

    from thawslump import raster
    from thawslump.figures import indexed_png, ramp

    layers: list[Layer] = []

    def add(
        array: NDArray[np.float32], key: str, title: str, words: str, name: str,
        low: float, high: float, form: str,
    ) -> None:  # fmt: skip
        colours = ramp(name)
        uri = _uri(indexed_png(array, colours, low, high), "png")
        bottom, top = (form.format(end).replace("-", "−") for end in (low, high))
        layers.append(Layer(key, title, words, uri, _hex(colours), bottom, top))

    change = _read_small(workspace.stack(site.name), ["dNDVI"])
    if change is not None and np.isfinite(change[0]).any():
        end = float(np.nanpercentile(np.abs(change[0]), 99.5))
        end = max(0.05, math.ceil(end * 20) / 20)
        add(change[0][0], "dndvi", "NDVI change", "After minus before, greenest pixels; brown lost "
            "vegetation.", "BrBG", -end, end, "{:+.2f}")  # fmt: skip
    elif not workspace.context(site.name).exists() and workspace.stack(site.name).exists():
        # Own rasters may have neither: something must show where the outlines lie.
        band = raster.read(workspace.stack(site.name), window=Window(0, 0, 1, 1)).names[0]
        first = _read_small(workspace.stack(site.name), [band])
        if first is not None and np.isfinite(first[0]).any():
            low, high = (float(v) for v in np.nanpercentile(first[0], [1, 99]))
            words = "First band of the stack."
            add(first[0][0], "band", band, words, "gray", low, max(high, low + 1e-6), "{:.3g}")
    if map_path is not None:
        probability = _read_small(map_path, ["probability"])
        if probability is not None:
            words = f"Mean of the ensemble of round {number}."
            add(probability[0][0], "probability", "Slump probability", words, "viridis",
                0.0, 1.0, "{:.0f}")  # fmt: skip
        spread = _read_small(map_path, ["disagreement"])
        if spread is not None and np.isfinite(spread[0]).any():
            top = max(0.05, math.ceil(float(np.nanmax(spread[0])) * 20) / 20)
            words = "Standard deviation of the members' probabilities."
            add(spread[0][0], "disagreement", "Disagreement", words, "cividis",
                0.0, top, "{:.2f}")  # fmt: skip
    return layers


def _error_layer(
    workspace: Workspace, site: Site, results: Results, map_path: Path | None, number: int
) -> list[Layer]:
    """Return where the ensemble is right and wrong, for sites whose slumps are all known."""
    import numpy as np
    from PIL import Image

    from thawslump import raster
    from thawslump.figures import ERRORS, error_colours

    labels = newest([workspace.labels(n, site.name) for n in range(results.round, 0, -1)])
    ensemble = next((m for m in results.ensembles if m.round == number), None)
    if (
        map_path is None or labels is None or site.role == "area"
        or ensemble is None or ensemble.threshold is None
    ):  # fmt: skip
        return []
    if max(raster.grid_of(map_path).shape) > 4000:
        return []
    probability = raster.read_float(map_path, ["probability"]).array[0]
    marks = raster.read(labels).array[0]
    if marks.shape != probability.shape:
        return []
    out = io.BytesIO()
    colours = error_colours(probability, marks.astype(np.uint8), ensemble.threshold)
    picture = Image.fromarray(colours)
    picture.quantize(8, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    shown = ("found", "missed", "false alarm", "rightly none")
    return [
        Layer(
            "errors", "Right and wrong",
            f"Ensemble of round {number} at its threshold {ensemble.threshold:.2f}, against the "
            "known outlines.",
            _uri(out.getvalue(), "png"),
            classes=tuple(("#" + "".join(f"{v:02x}" for v in ERRORS[k]), k) for k in shown),
            pixelated=True,
        )
    ]  # fmt: skip


def _susceptibility_layer(workspace: Workspace, site: Site, results: Results) -> list[Layer]:
    import numpy as np

    from thawslump.figures import indexed_png

    path = newest(
        [workspace.map(n, site.name, "susceptibility-") for n in range(results.round, 0, -1)]
    )
    if path is None:
        return []
    facts = results.susceptibility_facts
    upper = facts.get("classes", {}).get("upper_probability", [])
    found = _read_small(path, ["probability"])
    if found is None or not upper:
        return []
    values = found[0][0]
    classes = np.where(
        np.isfinite(values), np.searchsorted(np.array(upper[:-1]), values, side="left"), np.nan
    )
    strange = _read_small(path, ["outside"])
    outside = np.zeros(values.shape, bool) if strange is None else strange[0][0] >= 0.5
    line = tuple(int(HATCH[i : i + 2], 16) for i in (1, 3, 5))
    colours = np.vstack([np.array([line], np.uint8), class_colours(len(upper))])
    shown = hatched(classes, outside, _LONGEST)
    legend = list(zip(hex_colours(colours[1:]), class_words(len(upper)), strict=True))
    if outside.any():
        legend.append((HATCH_KEY, "unlike anything learned from"))
    model = results.map_model
    return [
        Layer(
            "susceptibility", "Susceptibility",
            f"{len(upper)} classes by natural breaks; "
            f"{model_words(model.name) if model else 'model'}, "
            f"{abs(found[1].transform.a):.0f} m cells.",
            _uri(indexed_png(shown, colours, -1, len(upper) - 1), "png"),
            classes=tuple(legend),
            pixelated=True,
        )
    ]  # fmt: skip


def _outlines(workspace: Workspace, site: Site, grid: GeoBox, results: Results) -> list[Outline]:
    """Return the outlines of the inventory that touch a site's grid."""
    import geopandas
    from shapely.geometry import box

    from thawslump.figures import outline_path

    if not workspace.inventory.exists():
        return []
    inverse = tuple(~grid.transform)[:6]
    edges = grid.boundingbox
    frame = box(edges.left, edges.bottom, edges.right, edges.top)
    found: list[Outline] = []

    def add(
        rows: Any, kind_of: Callable[[Any], str], words: Callable[[Any], str],
        chip: Callable[[Any], str], order: Callable[[Any], tuple[float, ...]],
    ) -> None:  # fmt: skip
        if rows.empty:
            return
        rows = rows.to_crs(str(grid.crs))
        rows = rows[rows.geometry.intersects(frame)]
        for row in rows.itertuples():
            west, south, east, north = row.geometry.bounds
            x0, y0 = inverse[0] * west + inverse[2], inverse[4] * north + inverse[5]
            x1, y1 = inverse[0] * east + inverse[2], inverse[4] * south + inverse[5]
            found.append(
                Outline(kind_of(row), outline_path(row.geometry, inverse), words(row),
                        (x0, y0, x1 - x0, y1 - y0), chip(row), order(row))
            )  # fmt: skip

    slumps = geopandas.read_file(workspace.inventory, layer="slumps")
    candidates = geopandas.read_file(workspace.inventory, layer="candidates")
    add(
        slumps[slumps["round"] == 0],
        lambda row: "known",
        lambda row: f"known slump, {row.area_m2 / 1e4:.2f} ha",
        lambda row: "",
        lambda row: (0.0,),
    )
    add(
        candidates[candidates["round"] <= results.round],
        lambda row: str(row.state),
        lambda row: (
            f"round {row.round}, candidate {row.rank}: {row.state}; probability "
            f"{row.probability_mean:.2f}, disagreement {row.disagreement:.2f}, "
            f"{row.area_m2 / 1e4:.2f} ha"
        ),
        lambda row: (
            f"{row.round}.{row.rank} {_STATES.get(row.state, row.state)}, "
            f"p\u00a0{row.probability_mean:.2f}\u00a0±\u00a0{row.disagreement:.2f}, "
            f"{row.area_m2 / 1e4:.2f}\u00a0ha"
        ),
        lambda row: (float(row.round), float(row.rank)),
    )
    found.sort(key=lambda o: (o.order, o.path))
    return found


def mercator_overlay(
    path: Path, band: str, colours: str, low: float, high: float
) -> tuple[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Return a band as an image that web maps can lay over their tiles.

    Parameters
    ----------
    path : Path
    band : str
    colours : str
        Name of a matplotlib colour map.
    low, high : float
        Values of its first and its last colour.

    Returns
    -------
    uri : str
        PNG in web Mercator as a data URI; missing values are transparent.
    bounds : ((south, west), (north, east))
        Degrees, in the order in which Leaflet takes them.

    Raises
    ------
    DataError
        The file or the band is missing.
    """
    import numpy as np
    from pyproj import Transformer
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    from thawslump import raster
    from thawslump.figures import indexed_png, ramp

    found = raster.read_float(path, [band])
    edges = found.grid.boundingbox
    transform, width, height = calculate_default_transform(
        found.grid.crs.to_wkt(), "EPSG:3857", found.grid.shape[1], found.grid.shape[0],
        edges.left, edges.bottom, edges.right, edges.top,
    )  # fmt: skip
    thin = max(1.0, max(width, height) / _LONGEST)
    transform = type(transform)(
        transform.a * thin, 0, transform.c, 0, transform.e * thin, transform.f
    )
    warped = np.full((math.ceil(height / thin), math.ceil(width / thin)), np.nan, np.float32)
    reproject(
        found.array[0], warped, src_transform=found.grid.transform,
        src_crs=found.grid.crs.to_wkt(), src_nodata=np.nan, dst_transform=transform,
        dst_crs="EPSG:3857", dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    to_lonlat = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    west, north = to_lonlat.transform(transform.c, transform.f)
    east, south = to_lonlat.transform(
        transform.c + transform.a * warped.shape[1], transform.f + transform.e * warped.shape[0]
    )
    uri = _uri(indexed_png(warped, ramp(colours), low, high), "png")
    return uri, ((south, west), (north, east))
