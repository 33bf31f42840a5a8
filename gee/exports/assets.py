"""Products that lie on the service as assets: made by batch tasks, read back as stored pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ee
from numpy.typing import NDArray

from gee.exports.faults import words
from gee.exports.fetch import Checkpoint, Tally, fetch
from gee.grids import crs_transform
from gee.session import aimed, describe
from thawslump.errors import BackendError, DataError

if TYPE_CHECKING:
    from gee.exports.meter import Meter
    from gee.exports.products import Product
    from thawslump.workspace import Workspace

__all__ = ["find", "make_folder", "read_back"]


def read_back(
    workspace: Workspace,
    product: Product,
    asset: str,
    checkpoint: Checkpoint,
    meter: Meter,
    advance: Callable[[int, str, bool], None],
) -> NDArray[Any]:
    """Fetch the pixels of an asset: stored ones, in the tiles of an export by pixels."""
    backend, config = workspace.config.backend, workspace.config.export
    where = describe(backend, workspace.catalog, "stored")
    _refuse_other(asset, product, where)
    image = ee.Image(asset).select(list(product.bands))
    with aimed(backend, "stored"):
        return fetch(
            dataclasses.replace(product, image=image),
            checkpoint,
            config,
            where,
            Tally(),
            lambda pixels: advance(pixels, product.name, False),
            kept=lambda pixels: advance(pixels, product.name, True),
            meter=meter,
        )


def _refuse_other(asset: str, product: Product, where: str) -> None:
    found = find(asset)
    if found is None:
        raise BackendError(
            f"{where} has no asset {asset}.",
            hint="See with `thawslump export status` whether its task is done.",
        )
    bands = tuple(band["id"] for band in found.get("bands", ()))
    if bands != product.bands:
        raise DataError(
            f"{asset} has the bands {', '.join(bands) or 'none'}; {product.name} has "
            f"{', '.join(product.bands)}.",
            hint="Remove the asset and submit again.",
        )
    for band in found["bands"]:
        grid = band.get("grid", {})
        size = grid.get("dimensions", {})
        shape = (int(size.get("height", 0)), int(size.get("width", 0)))
        affine = grid.get("affineTransform", {})
        theirs = [
            float(affine.get(key, 0.0))
            for key in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
        ]
        ours = crs_transform(product.grid)
        same = all(
            math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-6)
            for a, b in zip(theirs, ours, strict=True)
        )
        if not same or shape != tuple(product.grid.shape):
            raise DataError(
                f"{asset} lies on another grid: {shape[0]} x {shape[1]} pixels, transform "
                f"{theirs}; the site has {product.grid.shape[0]} x {product.grid.shape[1]}, "
                f"{list(ours)}.",
                hint="Remove the asset and submit again.",
            )


def find(name: str) -> dict[str, Any] | None:
    """Return the description of an asset, or None where there is none."""
    try:
        found: dict[str, Any] = ee.data.getAsset(name)
    except ee.EEException as error:
        if "not found" in str(error).lower() or "does not exist" in str(error).lower():
            return None
        raise
    return found


def make_folder(name: str, where: str) -> None:
    """Make a folder of assets, and those that it lies in."""
    try:
        if find(name) is not None:
            return
        parent, _, _ = name.rpartition("/")
        if parent and not parent.endswith("/assets") and parent != "assets":
            make_folder(parent, where)
        ee.data.createAsset({"type": "FOLDER"}, name)
    except ee.EEException as error:
        raise BackendError(
            f"{where} did not make the folder of assets {name}: {words(error)}",
            hint="Set export.destination to a folder that you may write to, such as "
            "projects/MY-PROJECT/assets/thawslump.",
        ) from error
