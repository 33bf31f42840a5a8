"""What the authoring modules write with: rules, and the requests that decide them."""

from __future__ import annotations

from typing import Any

__all__ = ["LONLAT", "UTM", "Book", "grid", "pattern", "projection", "square"]

UTM, LONLAT = "EPSG:32633", "EPSG:4326"
# Corner of all small grids: 15 degrees east, a good way north of the equator.
EAST, NORTH = 500_000, 5_000_000


class Book:
    """Rules and requests in the order in which they are written down."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.assets: dict[str, dict[str, Any]] = {}

    def rule(self, name: str, question: str, here: str, source: str) -> None:
        """Write down what is not known, what the emulator does, and what is silent about it."""
        self.rules.append({"id": name, "question": question, "here": here, "source": source})

    def value(self, name: str, why: str, expression: Any, **compare: Any) -> None:
        """Ask for a value, of the rule that was written down last."""
        self._add(name, why, "value:compute", expression, {}, compare or {"kind": "equal"})

    def error(self, name: str, why: str, expression: Any) -> None:
        """Ask for what is refused, to learn the words."""
        self._add(name, why, "value:compute", expression, {}, {"kind": "error"})

    def pixels(
        self, name: str, why: str, image: Any, place: dict[str, Any], **compare: Any
    ) -> None:
        """Ask for the pixels of a small grid."""
        body = {"fileFormat": "NPY", "grid": place}
        self._add(name, why, "image:computePixels", image, body, compare or {"kind": "pixels"})

    def _add(
        self,
        name: str,
        why: str,
        method: str,
        expression: Any,
        body: dict[str, Any],
        compare: dict[str, Any],
    ) -> None:
        from ee import serializer

        graph = serializer.encode(expression, for_cloud_api=True)
        self.requests.append(
            {
                "id": name,
                "rule": self.rules[-1]["id"],
                "why": why,
                "method": method,
                "body": {"expression": graph, **body},
                "compare": compare,
            }
        )


def grid(
    width: int,
    height: int,
    scale: float = 10,
    x: float = EAST,
    y: float = NORTH,
    crs: str = UTM,
    shear: tuple[float, float] = (0, 0),
) -> dict[str, Any]:
    """Return the grid of a request, north up unless sheared."""
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": {
            "scaleX": scale, "shearX": shear[0], "translateX": x,
            "shearY": shear[1], "scaleY": -scale, "translateY": y,
        },
        "crsCode": crs,
    }  # fmt: skip


def projection(scale: float = 10, crs: str = UTM, x: float = EAST, y: float = NORTH) -> Any:
    """Return the projection whose pixel (0, 0) has its corner where the small grids have theirs."""
    import ee

    return ee.Projection(crs, [scale, 0, x, 0, -scale, y])


def pattern(scale: float = 10) -> Any:
    """Return an image of the whole numbers 0 to 10, irregular enough to betray a shift."""
    import ee

    grid = projection(scale)
    xy = ee.Image.pixelCoordinates(grid).floor()
    mixed = xy.select("x").multiply(7).add(xy.select("y").multiply(3)).mod(11)
    return mixed.toFloat().rename("v").reproject(grid)


def square(west: float, south: float, east: float, north: float, scale: float = 10) -> Any:
    """Return a rectangle given in pixels of the small grids, y downwards."""
    import ee

    corners = [
        EAST + west * scale, NORTH - south * scale, EAST + east * scale, NORTH - north * scale,
    ]  # fmt: skip
    return ee.Geometry.Rectangle(corners, UTM, False)
