"""Which endpoint a request is for: pixels that lie stored, or pixels that are computed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ee

    from gee.config import Purpose

__all__ = ["READING", "functions", "purpose"]

READING = frozenset(
    {
        "Image.load",
        "ImageCollection.load",
        "Feature",
        "Image.addBands",
        "Image.constant",
        "Image.rename",
        "Image.select",
        "Image.toFloat",
        "Image.toUint16",
        "Image.toUint8",
        "Image.unmask",
        "Image.mask",
        "Image.clip",
        "Image.projection",
        "Image.reproject",
        "Image.resample",
        "Image.setDefaultProjection",
        "Collection.first",
        "Collection.filter",
        "Collection.limit",
        "Collection.map",
        "ImageCollection.mosaic",
        "Filter.and",
        "Filter.dateRangeContains",
        "Filter.intersects",
        "Filter.equals",
        "DateRange",
        "Date",
        "Projection",
        "GeometryConstructors.BBox",
        "GeometryConstructors.Polygon",
        "GeometryConstructors.Rectangle",
    }
)
"""Functions that find, read, rename and store pixels, and compute none."""


def purpose(image: ee.Image) -> Purpose:
    """Tell whether the pixels of an image lie stored, or are computed.

    Parameters
    ----------
    image : ee.Image
        As it is asked for.

    Returns
    -------
    {"stored", "computed"}
        ``stored`` where its expression graph uses functions of `READING` alone: an asset fetched
        back, or stored bands selected, renamed, put together and read on another grid. Anything
        else, one subtraction, one median, is ``computed``: the high-volume endpoint keeps few
        intermediate results, and neighbouring tiles would compute them again.

    Notes
    -----
    After Google's description of the two endpoints (guides/processing_environments); what they
    cost was not measured on the live service.
    """
    return "stored" if functions(image) <= READING else "computed"


def functions(image: ee.Image) -> set[str]:
    """Return the names of the functions that an expression graph calls."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            call = node.get("functionInvocationValue")
            if isinstance(call, dict):
                found.add(call.get("functionName", "a function of its own"))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(image.serialize()))
    return found
