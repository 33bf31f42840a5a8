"""Files of the user: vectors cut to what a site needs, in requests; rasters as assets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from gee_world import CRS, NORTH, SIZE, WEST, World, a_site, centres, make_world, world
from pyproj import Transformer
from test_gee_export import a_workspace, exported
from test_gee_scripts import pixels

import gee
from gee import vectors
from gee.config import BackendConfig
from gee.exports.check import check
from gee.exports.factor_sources import refuse_unfit
from gee.exports.kept import from_json, to_json
from gee.exports.survey import survey
from gee.grids import factor_grid
from gee.scripts import distances, factors
from gee.scripts.settled import Lines, Settled
from gee.session import connect
from gee.steps import export_settings, settings_digest, vector_checksums
from gee.vectors import read_vectors, shortened
from thawslump.cli import main
from thawslump.errors import ConfigError, DataError
from thawslump.raster import read_float, write_cog

MIDDLE = WEST + 1000.0  # of the site, a line from north to south


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("gee") / "catalog")


def line(x: float, reach: float = 30_000.0, wiggle: float = 0.0) -> shapely.LineString:
    y = np.linspace(NORTH - SIZE * 10 - reach, NORTH + reach, 2001)
    return shapely.LineString(np.column_stack([x + wiggle * np.sin(y / 37), y]))


def written(path: Path, *shapes: Any, crs: str = CRS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    geopandas.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path, engine="pyogrio")
    return path


def with_files(**sources: str) -> Any:
    return a_site(
        sources={"s1": "none", **sources},
        factors=("elevation", *(f"distance_{key}" for key in sources)),
        bands=("dNDVI",),
    )


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        *((name, crs) for name in ("a.gpkg", "a.shp", "a.fgb") for crs in (CRS, "EPSG:3995")),
        ("a.geojson", "EPSG:4326"),
    ],
)
def test_a_file_becomes_lines_around_the_site(tmp_path: Path, name: str, crs: str) -> None:
    shapes = geopandas.GeoSeries([line(MIDDLE), line(WEST + 500_000)], crs=CRS).to_crs(crs)
    written(tmp_path / "data" / name, *shapes, crs=crs)
    found = read_vectors(tmp_path, with_files(railway=f"data/{name}"))
    assert found["railway"].features == 1  # the other one lies beyond reach
    ((shape,),) = json.loads(found["railway"].text)
    to_grid = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    x, y = to_grid.transform(*np.array(shape).T)
    np.testing.assert_allclose(x, MIDDLE, atol=8.0)
    grid = factor_grid(a_site())
    box = grid.boundingbox
    assert y.min() == pytest.approx(box.bottom - 20_000, abs=60)
    assert y.max() == pytest.approx(box.top + 20_000, abs=60)
    assert len(x) < 30 < 2001  # straight lines need few points, but no edge is long
    assert np.hypot(np.diff(x), np.diff(y)).max() <= 5_001


def test_simplified_lines_stay_within_a_quarter_of_a_pixel() -> None:
    shape = line(MIDDLE, 0.0, wiggle=40.0)
    grid = factor_grid(a_site())
    frame = geopandas.GeoDataFrame(geometry=[shape], crs=CRS)
    (short,) = shortened(frame, grid, 20_000.0).to_crs(CRS).geometry
    assert shapely.hausdorff_distance(shape, short, densify=0.01) <= 30 / 4 + 0.5
    assert shapely.get_num_coordinates(short) < shapely.get_num_coordinates(shape) / 2


@pytest.mark.filterwarnings("ignore:Use `@` matmul instead of:PendingDeprecationWarning:xee.ext")
def test_distances_are_those_of_the_lines(made: World, tmp_path: Path) -> None:
    written(tmp_path / "faults.gpkg", line(MIDDLE, wiggle=40.0))
    area = shapely.box(WEST + 800, NORTH - 1100, WEST + 900, NORTH - 1000)
    written(tmp_path / "lakes.geojson", *geopandas.GeoSeries([area], crs=CRS).to_crs(4326),
            crs="EPSG:4326")  # fmt: skip
    site = with_files(faults="faults.gpkg", rivers="lakes.geojson")
    workspace = a_workspace(tmp_path, made.folder, site)
    exported(workspace)
    found = read_float(workspace.factors("place"))
    assert found.names == ("elevation", "distance_faults", "distance_rivers")
    x, y = centres(found.grid)
    points = shapely.points(x, y)
    # Earth Engine is asked for distances to 10 m, lines are simplified by 7.5 m.
    np.testing.assert_allclose(
        found.array[1], shapely.distance(points, line(MIDDLE, wiggle=40.0)), atol=18
    )
    # Of areas it is the distance to their edge, from inside too.
    np.testing.assert_allclose(found.array[2], shapely.distance(points, area.exterior), atol=18)
    with connect(BackendConfig(), workspace.catalog):
        lazy = gee.open_factors(site, root=tmp_path)["distance_faults"].to_numpy()
    np.testing.assert_array_equal(lazy, found.array[1])


def test_a_changed_file_exports_again_what_reads_it(made: World, tmp_path: Path) -> None:
    written(tmp_path / "faults.shp", line(MIDDLE))
    workspace = a_workspace(tmp_path, made.folder, with_files(faults="faults.shp"))
    site, other = workspace.site("place"), a_site(name="other")

    def digests() -> tuple[str, str]:
        both = (export_settings(workspace, one) for one in (site, other))
        first, second = (settings_digest(settings) for settings in both)
        return first, second

    before = digests()
    assert before == digests()
    written(tmp_path / "faults.shp", line(MIDDLE + 300))
    after = digests()
    assert after[0] != before[0] and after[1] == before[1]
    assert vector_checksums(tmp_path, with_files(faults="gone.gpkg")) == {"faults": "missing"}


def test_the_plan_says_what_is_carried_and_what_is_out_of_reach(
    made: World, tmp_path: Path
) -> None:
    written(tmp_path / "roads.gpkg", line(WEST + 500_000))
    written(tmp_path / "faults.gpkg", line(MIDDLE))
    site = with_files(roads="roads.gpkg", faults="faults.gpkg")
    found = check(a_workspace(tmp_path, made.folder, site), "place")
    assert found["vectors"]["faults"]["features"] == 1
    assert found["vectors"]["roads"]["features"] == 0
    assert "faults from faults.gpkg: 1 features within 100 km" in found["text"]
    assert "distance_roads is 20 km everywhere" in found["text"]


def test_lines_over_the_antimeridian_stay_whole(tmp_path: Path) -> None:
    to = Transformer.from_crs("EPSG:32601", "EPSG:4326", always_xy=True)
    lon, lat = to.transform(np.full(3, 500_000.0 - 100_000), [7_500_000.0, 7_505_000, 7_510_000])
    west = float(lon[0])  # about 179.4 W; the site lies across 180
    across = shapely.LineString([(179.9, lat[1]), (180.0, lat[1])])
    rest = shapely.LineString([(-180.0, lat[1]), (west, lat[1])])
    written(tmp_path / "faults.gpkg", across, rest, crs="EPSG:4326")
    site = a_site(
        bounds=(179.95, float(lat[0]), -179.95, float(lat[2])), crs="EPSG:32601",
        sources={"faults": "faults.gpkg"},
    )  # fmt: skip
    found = read_vectors(tmp_path, site)["faults"]
    assert found.features == 2
    (lines,) = json.loads(found.text)
    for one in lines:
        steps = np.abs(np.diff(np.array(one)[:, 0]))
        assert (np.minimum(steps, 360 - steps) < 1).all()  # no edge goes around the world


def test_what_cannot_be_read_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**sources: str) -> DataError:
        with pytest.raises(DataError) as caught:
            read_vectors(tmp_path, a_site(sources=sources))
        return caught.value

    assert "does not exist" in refused(faults="none.gpkg").message
    (tmp_path / "bad.gpkg").write_text("no")
    assert "could not be read as a vector file" in refused(faults="bad.gpkg").message
    written(tmp_path / "bare.shp", line(MIDDLE))
    (tmp_path / "bare.prj").unlink()
    error = refused(roads="bare.shp")
    assert "has no CRS" in error.message and "QGIS" in str(error.hint)
    (tmp_path / "empty.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": []})
    )
    assert "holds no features" in refused(faults="empty.geojson").message
    written(tmp_path / "dots.gpkg", shapely.Point(MIDDLE, NORTH))
    assert "holds Point features; lines or areas" in refused(faults="dots.gpkg").message
    error = refused(lithology="rocks.gpkg")
    assert "sources.lithology is the file rocks.gpkg" in error.message
    assert "thawslump emulator ingest" in str(error.hint)
    written(tmp_path / "many.gpkg", line(MIDDLE))
    monkeypatch.setattr(vectors, "LARGEST", 200)
    error = refused(faults="many.gpkg")
    assert "too large to travel with every request" in error.message
    assert "10 MB" in error.message and "faults" in error.message
    assert "earthengine upload table" in str(error.hint)
    assert "thawslump emulator ingest many.gpkg --as" in str(error.hint)


def test_scripts_read_no_files(made: World) -> None:
    site = with_files(faults="faults.gpkg")
    refused = pytest.raises(ConfigError, match="which a script does not read")
    with connect(BackendConfig(), made.folder), refused:
        distances.to_lines(site, "faults", Settled())


def test_a_kept_survey_keeps_the_lines(made: World, tmp_path: Path) -> None:
    "An export that is started again goes on with what it began with."
    written(tmp_path / "faults.gpkg", line(MIDDLE))
    with connect(BackendConfig(), made.folder):
        found = survey(with_files(faults="faults.gpkg"), root=tmp_path)
    again = from_json(json.loads(json.dumps(to_json(found))))
    assert again.settled.vectors == found.settled.vectors
    assert isinstance(again.settled.vectors["faults"], Lines)


@pytest.mark.parametrize("key", ["lithology", "permafrost"])
def test_a_raster_on_disk_becomes_a_source_of_the_emulator(tmp_path: Path, key: str) -> None:
    "As docs/factors.md says: ingest it with the policy of classes, and name the asset."
    make_world(tmp_path / "catalog")
    dem = world(30, margin=90)
    x, y = centres(dem)
    rocks = (((x // 70) + (y // 110)) % 6 + 1).astype("uint8")
    write_cog(tmp_path / "geology.tif", rocks[None], dem, ["class"], nodata=0)
    command = ["emulator", "ingest", str(tmp_path / "geology.tif"), "--as", "users/me/geology"]
    more = ["--pyramiding", "MODE", "--catalog", str(tmp_path / "catalog")]
    with pytest.raises(SystemExit) as done:
        main([*command, *more])
    assert done.value.code == 0
    site = a_site(sources={key: "users/me/geology"})
    with connect(BackendConfig(), tmp_path / "catalog"):
        assert refuse_unfit(site.model_copy(update={"factors": (key,)}), lambda ask: ask()) == 1
        found = pixels(factors.factors(site, [key]), factor_grid(site))[key]
    x, y = centres(factor_grid(site))
    there = (((dem.transform.f - y) // 30).astype(int), ((x - dem.transform.c) // 30).astype(int))
    np.testing.assert_array_equal(found, rocks[there])
