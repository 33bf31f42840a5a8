"""A small made-up catalogue for tests of the engine, and graphs as the real client makes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ee
import ee.deprecation
import numpy as np
from google.auth.credentials import AnonymousCredentials

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.evaluate import Evaluator
from gee.emulator.pixels import Limits, render
from gee.emulator.projection import PixelGrid, Window
from gee.emulator.transport import Transport

UTM = "EPSG:32633"
WEST, NORTH, STEP = 500_000.0, 6_700_000.0, 10.0
NATIVE = (STEP, 0.0, WEST, 0.0, -STEP, NORTH)
DAY = 86_400_000


class Earth:
    """A catalogue, the engine over it, and the unmodified client to make graphs with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = Catalog(root, writable=True)
        self.engine = Evaluator(self.catalog)

    def put(
        self, name: str, /, *bands: BandData, start: int | None = None, **properties: Any
    ) -> None:
        """Add an image."""
        self.catalog.put_image(name, bands, properties, start_ms=start)

    def graph(self, value: Any) -> dict[str, Any]:
        """Return the expression that the client sends."""
        return json.loads(json.dumps(ee.serializer.encode(value, for_cloud_api=True)))

    def value(self, value: Any) -> Any:
        """Return what the engine makes of it."""
        return self.engine.evaluate(self.graph(value))

    def info(self, value: Any) -> Any:
        """Return what getInfo would."""
        return self.engine.to_json(self.value(value))

    def pixels(
        self, image: Any, grid: PixelGrid | Window | None = None, limits: Limits | None = None
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return data and mask of every band on a grid."""
        return render(self.value(image), grid or native(64, 64), None, limits)

    def data(self, image: Any, grid: PixelGrid | Window | None = None) -> np.ndarray:
        """Return the first band as float64, NaN where masked."""
        data, mask = next(iter(self.pixels(image, grid).values()))
        return np.where(mask > 0, data.astype(float), np.nan)


def native(height: int, width: int, row: int = 0, column: int = 0) -> PixelGrid:
    """A grid of the made-up assets' own pixels."""
    a, _, c, _, e, f = NATIVE
    return PixelGrid(UTM, (a, 0.0, c + column * a, 0.0, e, f + row * e), width, height)


def at_scale(metres: float, height: int, width: int) -> PixelGrid:
    """A grid of other pixels from the same corner."""
    return PixelGrid(UTM, (metres, 0.0, WEST, 0.0, -metres, NORTH), width, height)


def band(name: str, array: Any, mask: Any = None, policy: str = "MEAN", **more: Any) -> BandData:
    """A band on the made-up assets' own pixels."""
    return BandData(name, np.asarray(array), UTM, NATIVE, mask, policy, **more)


def box(row0: float, row1: float, column0: float, column1: float) -> ee.Geometry:
    """A rectangle around pixels of the made-up assets."""
    return ee.Geometry.Rectangle(
        [
            WEST + column0 * STEP,
            NORTH - row1 * STEP,
            WEST + column1 * STEP,
            NORTH - row0 * STEP,
        ],
        UTM,
        False,
    )


@contextmanager
def earth(root: Path) -> Iterator[Earth]:
    """Yield an engine with the client initialised; the client forgets it afterwards."""
    (root / "catalog").mkdir(parents=True, exist_ok=True)
    blank = ee.deprecation.DeprecatedAsset("-", None, None, None)
    ee.Reset()
    # Otherwise Initialize asks Google for a list of deprecated assets.
    ee.deprecation.deprecated_assets = {"-": blank}
    transport = Transport(root / "catalog", root / "state")
    ee.Initialize(credentials=AnonymousCredentials(), project="made-up", http_transport=transport)
    try:
        yield Earth(root / "catalog")
    finally:
        transport.close()
        ee.Reset()
