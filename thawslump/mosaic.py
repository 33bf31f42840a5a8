"""Mosaics of the parts of large areas: VRT files, which QGIS opens and every reader here reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from thawslump.errors import DataError
from thawslump.files import write_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["of_maps", "plan", "run", "write_vrt"]

KINDS = ("stack", "context", "factors")
_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}


def write_vrt(path: Path, sources: Sequence[Path], grid: GeoBox) -> None:
    """Write a virtual raster over files that lie on one grid, atomically.

    Parameters
    ----------
    path : Path
        The files are named relative to it, so that a folder can be moved.
    sources : sequence of Path
        Rasters whose pixels lie on those of `grid`, without overlap. A band that some of them
        lack is nodata there; so is what none of them covers.
    grid : GeoBox
        Of the whole.

    Raises
    ------
    DataError
        No file is given, one is not on the grid, or their data types differ.
    """
    from thawslump.raster import open_raster

    if not sources:
        raise DataError(f"{path}: there is no file to make a mosaic of.")
    a = grid.transform
    rows, columns = (int(side) for side in grid.shape)
    root = ElementTree.Element("VRTDataset", rasterXSize=str(columns), rasterYSize=str(rows))
    ElementTree.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = grid.crs.to_wkt()
    ElementTree.SubElement(root, "GeoTransform").text = ", ".join(
        repr(float(v)) for v in (a.c, a.a, a.b, a.f, a.d, a.e)
    )
    bands: dict[str, ElementTree.Element] = {}
    types: dict[str, str] = {}
    tags: dict[str, str] = {}
    for source in sources:
        with open_raster(source) as raster:
            t = raster.transform
            column, row = (t.c - a.c) / a.a, (t.f - a.f) / a.e
            off = max(abs(column - round(column)), abs(row - round(row)), abs(t.a / a.a - 1))
            if off > 1e-3 or raster.crs != grid.crs.proj:
                raise DataError(
                    f"{source} is not on the grid of the mosaic {path.name}.",
                    hint="Export the part again: `thawslump run --until export`.",
                )
            tags |= {key: tag for key, tag in raster.tags().items() if key == "made_up"}
            for index, name in enumerate(raster.descriptions, start=1):
                label = name or f"band{index}"
                if label not in bands:
                    bands[label] = _band(raster, index, label, len(bands) + 1)
                    types[label] = raster.dtypes[index - 1]
                if raster.dtypes[index - 1] != types[label]:
                    raise DataError(
                        f"{source}: band {label} is {raster.dtypes[index - 1]}, in another part "
                        f"{types[label]}.",
                        hint="Export the parts again: `thawslump run --until export`.",
                    )
                _source(bands[label], source, path, index, (round(column), round(row)), raster)
    if tags:
        metadata = ElementTree.SubElement(root, "Metadata")
        for key, tag in tags.items():
            ElementTree.SubElement(metadata, "MDI", key=key).text = tag
    for element in bands.values():
        root.append(element)
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def _band(raster: Any, index: int, name: str, number: int) -> ElementTree.Element:
    element = ElementTree.Element(
        "VRTRasterBand", dataType=_TYPES[raster.dtypes[index - 1]], band=str(number)
    )
    nodata, unit = raster.nodatavals[index - 1], raster.units[index - 1]
    told = {
        "Description": name,
        "UnitType": unit or None,
        "Offset": raster.offsets[index - 1] or None,
        "Scale": None if raster.scales[index - 1] == 1 else raster.scales[index - 1],
        "NoDataValue": nodata,
    }
    for key, value in told.items():
        if value is not None:
            ElementTree.SubElement(element, key).text = str(value)
    _colours(element, raster, index)
    return element


def _colours(element: ElementTree.Element, raster: Any, index: int) -> None:
    """Take over the colours of a band of classes, and their names where its tags give them."""
    try:
        table = raster.colormap(index)
    except ValueError:  # most bands have none
        return
    ElementTree.SubElement(element, "ColorInterp").text = "Palette"
    tags = raster.tags(index)
    names: list[str] = []
    while f"class_{len(names) + 1}" in tags:
        names.append(tags[f"class_{len(names) + 1}"].partition(":")[0])
    if names:
        named = ElementTree.SubElement(element, "CategoryNames")
        for name in ("nodata", *names):
            ElementTree.SubElement(named, "Category").text = name
    colours = ElementTree.SubElement(element, "ColorTable")
    for number in range(len(names) + 1 if names else len(table)):
        values = {f"c{k}": str(v) for k, v in enumerate(table[number], start=1)}
        ElementTree.SubElement(colours, "Entry", values)


def _source(
    band: ElementTree.Element,
    source: Path,
    path: Path,
    index: int,
    corner: tuple[int, int],
    raster: Any,
) -> None:
    element = ElementTree.SubElement(band, "SimpleSource")
    name = ElementTree.SubElement(element, "SourceFilename", relativeToVRT="1")
    name.text = Path(os.path.relpath(source, path.parent)).as_posix()
    ElementTree.SubElement(element, "SourceBand").text = str(index)
    # With size and type said here, GDAL opens a file only when it is read.
    ElementTree.SubElement(
        element,
        "SourceProperties",
        RasterXSize=str(raster.width),
        RasterYSize=str(raster.height),
        DataType=_TYPES[raster.dtypes[index - 1]],
        BlockXSize=str(raster.block_shapes[index - 1][1]),
        BlockYSize=str(raster.block_shapes[index - 1][0]),
    )
    size = {"xSize": str(raster.width), "ySize": str(raster.height)}
    ElementTree.SubElement(element, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    place = {"xOff": str(corner[0]), "yOff": str(corner[1])}
    ElementTree.SubElement(element, "DstRect", {**place, **size})


def of_maps(
    workspace: Workspace, round: int, names: Sequence[str], prefix: str = "", coarse: bool = False
) -> dict[Path, tuple[list[Path], GeoBox]]:
    """Return the mosaics of the maps of some parts, each with its files and its grid.

    Parameters
    ----------
    workspace : Workspace
    round : int
    names : sequence of str
        Parts that were mapped, among others.
    prefix : str
        Of the files' names.
    coarse : bool
        The maps have the pixels of the factors.
    """
    found = {}
    for name, zone in workspace.mosaics.items():
        there = [part for part in zone.names if part in set(names)]
        if there and (zone.nests or not coarse):
            grid = zone.factor_grid() if coarse else zone.grid()
            files = [workspace.map(round, part, prefix) for part in there]
            found[workspace.map(round, name, prefix)] = (files, grid)
    return found


def plan(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per zone of a large area: the mosaics of its parts that are there."""
    from thawslump.pipeline import Item

    items = []
    for name, zone in workspace.mosaics.items():
        inputs = [
            path
            for kind in KINDS
            if kind != "factors" or zone.nests
            for part in zone.names
            if (path := workspace.tiles(part) / f"{kind}.tif").exists()
        ]
        kinds = [kind for kind in KINDS if any(path.stem == kind for path in inputs)]
        if inputs:
            items.append(
                Item(
                    step="mosaic",
                    name=name,
                    target="thawslump.mosaic:run",
                    settings={"pinned": list(zone.pinned), "kinds": kinds},
                    inputs=tuple(inputs),
                    outputs=tuple(workspace.tiles(name) / f"{kind}.vrt" for kind in kinds),
                    cost=1.0,
                )
            )
    return items


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> Mapping[str, int]:
    """Write ``stack.vrt``, ``context.vrt`` and ``factors.vrt`` of a zone."""
    zone = workspace.mosaics[item.name]
    for path in item.outputs:
        sources = [source for source in item.inputs if source.stem == path.stem]
        write_vrt(path, sources, zone.factor_grid() if path.stem == "factors" else zone.grid())
    return {"parts": len(zone.parts), "files": len(item.inputs)}
