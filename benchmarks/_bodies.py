"""Requests of real clients: `made_up` writes a small catalogue, `recorded` runs client code and
this package's scripts against it in this process and keeps every request.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.transport import Transport

CRS = "EPSG:32633"
WEST, NORTH, SIDE = 500_000.0, 6_762_000.0, 160
DATES = ("2020-06-10", "2020-07-10", "2020-08-10", "2021-06-12", "2021-07-12", "2021-08-12")
S2, S1 = "COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S1_GRD"


@dataclass
class Body:
    """A request.

    Attributes
    ----------
    method, path : str
        The path with its query.
    content : dict, bytes or None
    malformed : bool
        Whether it is wrong whatever it means, so that a 4xx must be the answer.
    how : str
        What was done to it.
    """

    method: str
    path: str
    content: Any = None
    malformed: bool = False
    how: str = "recorded"

    def encoded(self) -> bytes:
        """Return what goes over the wire."""
        if self.content is None:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        return json.dumps(self.content).encode()


# ---------------------------------------------------------------------------- what is recorded


def made_up(root: Path) -> None:
    """Write a small catalogue under the ids that this package's scripts read."""
    catalog = Catalog(root, writable=True)
    dice = np.random.default_rng(3)
    y, x = np.mgrid[:SIDE, :SIDE]
    height = (400 + 1.5 * x + y + 40 * np.sin(x / 24) * np.cos(y / 20)).astype("f4")

    def band(name: str, array: np.ndarray, step: float = 10.0, **more: Any) -> BandData:
        return BandData(name, array, CRS, (step, 0.0, WEST, 0.0, -step, NORTH), **more)

    def moment(date: str) -> int:
        return int(dt.datetime.fromisoformat(f"{date}T10:00:00+00:00").timestamp() * 1000)

    for name in (S2, S1, "COPERNICUS/DEM/GLO30"):
        catalog.put_collection(name)
    for date in DATES:
        bands = [
            band(n, dice.integers(200, 3000, (SIDE, SIDE)).astype("u2"))
            for n in ("B2", "B3", "B4", "B8")
        ]
        kinds = dice.choice([3, 4, 5, 6, 9], (SIDE // 2, SIDE // 2)).astype("u1")
        bands.append(band("SCL", kinds, 20.0, pyramiding="SAMPLE"))
        name = f"{S2}/{date.replace('-', '')}"
        catalog.put_image(name, bands, {"CLOUDY_PIXEL_PERCENTAGE": 10.0}, start_ms=moment(date))
        for direction, orbit in (("ASCENDING", 44), ("DESCENDING", 95)):
            power = dice.normal(-11, 1, (2, SIDE, SIDE)).astype("f4")
            angle = np.add.outer(np.zeros(8), 36 + 0.2 * np.arange(8.0)).astype("f4")
            catalog.put_image(
                f"{S1}/{date.replace('-', '')}{direction[0]}",
                [band("VV", power[0]), band("VH", power[1] - 7), band("angle", angle, 200.0)],
                {
                    "instrumentMode": "IW",
                    "transmitterReceiverPolarisation": ["VV", "VH"],
                    "orbitProperties_pass": direction,
                    "relativeOrbitNumber_start": orbit,
                },
                start_ms=moment(date),
            )
    catalog.put_image("COPERNICUS/DEM/GLO30/tile", [band("DEM", height)])
    catalog.put_image("users/me/dem", [band("elevation", height)])
    marks = (dice.random((SIDE, SIDE)) > 0.97).astype("u1")
    catalog.put_image("users/me/marks", [band("c", marks, pyramiding="SAMPLE")])
    catalog.put_folder("projects/local/assets/box")
    catalog.put_table(
        "users/me/lines",
        [
            {
                "id": f"l{k}",
                "geometry": {
                    "type": "LineString",
                    "coordinates": [[15.001 + d, 60.99], [15.008 + d, 60.985]],
                },
                "properties": {"kind": k, "name": f"line {k}"},
            }
            for k, d in enumerate((0.0, 0.004, 0.008))
        ],
    )


class _Recorder(Transport):
    def __init__(self, root: Path, state: Path) -> None:
        super().__init__(root, state)
        self.bodies: list[Body] = []

    def request(self, uri: str, method: str = "GET", body: Any = None, **more: Any) -> Any:
        path = "/" + uri.partition("//")[2].partition("/")[2]
        content = None
        if body:
            text = body.decode() if isinstance(body, bytes) else body
            content = json.loads(text) if text.startswith("{") else text.encode()
        if content is not None or ("algorithms" not in path and "discovery" not in path):
            self.bodies.append(Body(method.upper(), path, content))
        return super().request(uri, method, body, **more)


@contextmanager
def client(root: Path, state: Path) -> Iterator[_Recorder]:
    """Yield a recorder that the unmodified Earth Engine client talks to."""
    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials

    # Else the client asks Google for a list of deprecated assets.
    blank = ee.deprecation.DeprecatedAsset("-", None, None, None)
    ee.Reset()
    ee.deprecation.deprecated_assets = {"-": blank}
    recorder = _Recorder(root, state)
    ee.Initialize(credentials=AnonymousCredentials(), project="local", http_transport=recorder)
    ee.data.setMaxRetries(0)
    try:
        yield recorder
    finally:
        recorder.close()
        ee.Reset()


def recorded(root: Path, state: Path) -> list[Body]:
    """Return the requests of client code and of this package's scripts."""
    with client(root, state) as recorder:
        _scripts()
        _values()
        _vectors()
        _pictures_and_exports()
        _assets()
        return [b for b in recorder.bodies if b.path.startswith("/v1/")]


def _window(width: int = 24, height: int = 16) -> dict[str, Any]:
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": {
            "scaleX": 10, "shearX": 0, "translateX": WEST + 400,
            "shearY": 0, "scaleY": -10, "translateY": NORTH - 400,
        },
        "crsCode": CRS,
    }  # fmt: skip


def _pixels(image: Any, **more: Any) -> None:
    import ee

    # A request that is refused is a request all the same.
    with suppress(ee.EEException):
        ee.data.computePixels(
            {"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": _window(), **more}
        )


def _region() -> Any:
    import ee

    return ee.Geometry.Rectangle([WEST + 400, NORTH - 800, WEST + 900, NORTH - 300], CRS, False)


def _scripts() -> None:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from gee.scripts import context, factors, relief, stack
    from thawslump.grid import lonlat_bounds
    from thawslump.site import Site, Window

    grid = GeoBox((16, 24), Affine(10, 0, WEST + 400, 0, -10, NORTH - 400), CRS)
    site = Site(
        name="place",
        role="area",
        bounds=lonlat_bounds(grid),
        crs=CRS,
        pre=Window(start=dt.date(2020, 6, 1), end=dt.date(2020, 9, 1)),
        post=Window(start=dt.date(2021, 6, 1), end=dt.date(2021, 9, 1)),
    )
    _pixels(stack.stack(site))
    _pixels(context.context(site))
    _pixels(factors.factors(site))
    _pixels(relief.relief(site))


def _values() -> None:
    import ee

    dem = ee.Image("users/me/dem")
    scenes = ee.ImageCollection(S2)
    region = _region()
    for value in (
        ee.Number(1).add(2).pow(3).divide(7).format("%.3f"),
        ee.Number.expression("a ** 2 + min(b, 3) / 2", {"a": 3, "b": 4}),
        ee.List.sequence(1, 20).map(lambda n: ee.Number(n).multiply(2)).reduce(ee.Reducer.sum()),
        ee.List([3, 1, 2]).sort().zip(["a", "b", "c"]).flatten().slice(1, 5).reverse(),
        ee.List.sequence(1, 9).iterate(
            lambda n, made: ee.List(made).add(ee.Number(n).add(ee.List(made).get(-1))), [1]
        ),
        ee.List.repeat("ab", 3).join("-"),
        ee.String("a1b22").replace("[0-9]+", "<$0>", "g").split("<").length(),
        ee.String("S2A_20200101").match("S(..)_(\\d{4})").get(2),
        ee.Dictionary({"a": 1, "b": [1, 2]}).combine({"c": "x"}).select(["a|c"]).toArray(["a"]),
        ee.Date("2020-02-29").advance(1, "year").format("YYYY-MM-dd"),
        ee.DateRange("2020-01-01", "2021-01-01").contains(ee.Date(1580000000000)),
        ee.Array([[1, 2], [3, 4]]).matrixMultiply(ee.Array([[0, 1], [1, 0]])).matrixInverse(),
        ee.Array([[1, 2, 3]]).repeat(0, 3).reduce(ee.Reducer.mean(), [1]).toList(),
        ee.Array.identity(3).slice(0, 0, 2).transpose().get([0, 0]),
        scenes.filterDate("2020-06-01", "2020-09-01").filterBounds(region).size(),
        scenes.aggregate_stats("CLOUDY_PIXEL_PERCENTAGE"),
        scenes.first(),
        scenes.limit(2),
        scenes.map(
            lambda i: i.set("n", i.normalizedDifference(["B8", "B4"]).bandNames())
        ).aggregate_array("n"),
        dem.reduceRegion(ee.Reducer.percentile([5, 50, 95]), region, 20),
        dem.addBands(ee.Image("users/me/marks")).reduceRegion(
            ee.Reducer.mean().combine(ee.Reducer.stdDev(), None, True).group(1, "kind"), region, 10
        ),
        scenes.getRegion(region.centroid(1), 10),
        dem.sampleRectangle(region=region, defaultValue=0),
        dem.projection().nominalScale(),
        ee.Projection("EPSG:32633").atScale(30).transform(),
        ee.Kernel.gaussian(30, 10, "meters").add(ee.Kernel.square(3)).rotate(1),
        ee.Reducer.histogram(10, 1).combine(ee.Reducer.minMax(), "x_"),
        ee.PixelType("int", -5, 5, 1).dimensions(),
        ee.Algorithms.If(ee.Number(1).gt(0), "yes", ee.List([])),
        ee.ConfusionMatrix(ee.Array([[4, 1], [0, 5]])).kappa(),
        ee.Terrain.products(dem).bandNames(),
    ):
        with suppress(ee.EEException):
            value.getInfo()
    _pixels(scenes.median().select(["B.*"]))
    _pixels(scenes.map(lambda i: i.normalizedDifference(["B8", "B4"])).qualityMosaic("nd"))
    _pixels(dem.focalMean(3).subtract(dem.convolve(ee.Kernel.laplacian8())).resample("bicubic"))
    _pixels(dem.expression("(b('elevation') - m) / (1 + s)", {"m": 3, "s": ee.Image(2)}))
    _pixels(dem.gt(500).selfMask().connectedPixelCount(20).reproject("EPSG:4326", None, 100))
    _pixels(dem.reduceResolution(ee.Reducer.mean(), True, 64).reproject(CRS, None, 40))
    _pixels(
        dem.reduceNeighborhood(ee.Reducer.stdDev(), ee.Kernel.circle(4)).toUint8(),
        visualizationOptions={
            "ranges": [{"min": 0, "max": 9}],
            "paletteColors": ["000000", "ff0000"],
        },
        fileFormat="PNG",
    )
    _pixels(ee.Image("users/me/marks").fastDistanceTransform(20).sqrt().clip(region.buffer(50)))
    _pixels(dem.visualize(min=400, max=600).blend(ee.Image().paint(region, 1, 2).visualize()))
    _pixels(scenes.toArray().arrayReduce(ee.Reducer.mean(), [0]).arrayProject([1]).arrayGet([0]))


def _vectors() -> None:
    import ee

    dem, marks = ee.Image("users/me/dem"), ee.Image("users/me/marks")
    lines = ee.FeatureCollection("users/me/lines")
    region = _region()
    points = (
        dem.addBands(marks)
        .stratifiedSample(20, "c", region, scale=10, projection=ee.Projection(CRS), geometries=True)
        .randomColumn("r", 2)
    )
    tree = ee.Classifier.smileCart(8).train(points.filter("r < 0.7"), "c", ["elevation"])
    for value in (
        region.buffer(100, 1).intersection(region.simplify(5), 1).area(1),
        ee.Geometry.MultiPoint([[15, 61], [15.01, 61.01]]).convexHull().coordinates(),
        ee.Feature(region, {"a": 1}).set("b", ee.List([1])).toDictionary(),
        lines.map(lambda f: f.buffer(30)).union(1).geometry().bounds(),
        lines.filter(ee.Filter.Or(ee.Filter.gt("kind", 0), ee.Filter.stringContains("name", "0"))),
        lines.reduceColumns(ee.Reducer.mean().repeat(1), ["kind"]),
        lines.sort("kind", False).merge(lines).distinct(["kind"]).aggregate_histogram("kind"),
        ee.Join.saveAll("near", "far").apply(
            lines, points, ee.Filter.withinDistance(500, ".geo", None, ".geo")
        ),
        ee.Join.inner().apply(lines, lines, ee.Filter.equals("kind", None, "kind")),
        points.filter("r >= 0.7").classify(tree).errorMatrix("c", "classification").accuracy(),
        tree.explain(),
        marks.selfMask().reduceToVectors(geometry=region, scale=10, maxPixels=10000),
        dem.reduceRegions(lines, ee.Reducer.mean(), 10),
        dem.sample(region, 10, numPixels=9),
        ee.FeatureCollection.randomPoints(region, 5, 1),
        region.coveringGrid(CRS, 200),
    ):
        with suppress(ee.EEException):
            value.getInfo()
    ee.data.computeFeatures({"expression": lines.map(lambda f: f.simplify(1)), "pageSize": 2})
    _pixels(dem.classify(tree, "kind"))
    _pixels(lines.reduceToImage(["kind"], ee.Reducer.first()).unmask(9))
    _pixels(lines.distance(300).addBands(dem.cumulativeCost(marks, 100)))
    clusters = ee.Clusterer.wekaKMeans(3).train(points, ["elevation"])
    _pixels(dem.cluster(clusters))


def _pictures_and_exports() -> None:
    import ee

    dem = ee.Image("users/me/dem")
    dem.getMapId({"min": 400, "max": 600, "palette": ["blue", "white"]})
    dem.getThumbURL({"region": _region(), "dimensions": 64, "min": 400, "max": 600})
    dem.getDownloadURL({"region": _region(), "scale": 20, "format": "GEO_TIFF"})
    ee.FeatureCollection("users/me/lines").getDownloadURL("csv", ["kind"], "lines")
    ee.batch.Export.image.toDrive(
        dem, "a", folder="f", region=_region(), scale=20, crs=CRS, maxPixels=1e6
    ).start()
    ee.batch.Export.table.toDrive(
        ee.FeatureCollection("users/me/lines"), "b", fileFormat="GeoJSON"
    ).start()
    ee.batch.Export.image.toAsset(
        dem, "c", "projects/local/assets/box/copy", region=_region(), scale=40
    ).start()
    ee.data.listOperations()


def _assets() -> None:
    import ee

    ee.data.getAsset("users/me/dem")
    ee.data.listAssets({"parent": "projects/local/assets", "filter": 'type="FOLDER"'})
    ee.data.listAssets(
        {
            "parent": f"projects/earthengine-public/assets/{S2}",
            "filter": 'startTime >= "2020-07-01T00:00:00Z" AND '
            "properties.CLOUDY_PIXEL_PERCENTAGE < 20",
        }
    )
    ee.data.createAsset({"type": "FOLDER"}, "projects/local/assets/box/inner")
    ee.data.updateAsset(
        "projects/local/assets/box/inner", {"properties": {"a": "b"}}, ["properties"]
    )
    ee.data.copyAsset("users/me/dem", "projects/local/assets/box/dem")
    ee.data.renameAsset("projects/local/assets/box/dem", "projects/local/assets/box/dem2")
    ee.data.deleteAsset("projects/local/assets/box/dem2")
    ee.data.getPixels({"assetId": "users/me/dem", "fileFormat": "NUMPY_NDARRAY", "grid": _window()})
