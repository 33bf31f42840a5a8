"""Earth Engine's functions, one module per family, each registered under its id."""

from __future__ import annotations

import importlib

from .registry import REGISTRY, Entry, function

__all__ = ["REGISTRY", "Entry", "function", "load_all"]

_FAMILIES = (
    "arithmetic",
    "arrays",
    "bands",
    "classifiers",
    "collections",
    "dates",
    "features",
    "filters",
    "geometries",
    "joins",
    "lists",
    "loading",
    "masks",
    "neighbourhoods",
    "numbers",
    "projections",
    "reducers",
    "regions",
    "sampling",
    "sources",
    "strings",
    "terrain",
    "types",
    "vectors",
    "visual",
)


def load_all() -> dict[str, Entry]:
    """Import every family and return the registry."""
    for family in _FAMILIES:
        importlib.import_module(f".{family}", __name__)
    return REGISTRY
