"""Collections: filters, order, mapping, reducers and composites against numpy."""

from __future__ import annotations

import json
from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import DAY, Earth, band, box, earth, native
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.emulator import kernels
from gee.emulator.errors import EngineError
from gee.emulator.pixels import Limits

SIZE, COUNT = 48, 7


class World:
    def __init__(self, found: Earth, stack: np.ndarray, masks: np.ndarray) -> None:
        self.earth, self.stack, self.masks = found, stack, masks

    def valid(self, b: int = 0) -> np.ndarray:
        return np.where(self.masks[:, b], self.stack[:, b].astype(float), np.nan)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(8)
    stack = random.integers(0, 50, (COUNT, 2, SIZE, SIZE)).astype(np.int16)
    masks = random.random((COUNT, 2, SIZE, SIZE)) > 0.4
    masks[:, :, 0, 0] = False  # one pixel that no image has
    with earth(tmp_path_factory.mktemp("collections")) as found:
        found.catalog.put_collection("T/c")
        for k in range(COUNT):
            found.put(
                f"T/c/img{k}",
                band("a", stack[k, 0], masks[k, 0]),
                band("b", stack[k, 1], masks[k, 1]),
                start=(18000 + 30 * k) * DAY,
                cloud=float((k * 37) % 50),
                name=f"n{k % 3}",
                passes=["A", "B"] if k % 2 else ["A"],
            )
        yield World(found, stack, masks)


def collection() -> ee.ImageCollection:
    return ee.ImageCollection("T/c")


def indices(world: World, found: ee.ImageCollection) -> list[int]:
    return [int(i[3:]) for i in world.earth.info(found.aggregate_array("system:index"))]


def test_filters(world: World) -> None:
    "Each filter of the client, also those that it folds into others (section 4.1)."
    cloud = [(k * 37) % 50 for k in range(COUNT)]
    cases = {
        "lt": (ee.Filter.lt("cloud", 20), [k for k in range(COUNT) if cloud[k] < 20]),
        "lte": (ee.Filter.lte("cloud", 37), [k for k in range(COUNT) if cloud[k] <= 37]),
        "neq": (ee.Filter.neq("name", "n0"), [k for k in range(COUNT) if k % 3]),
        "list": (ee.Filter.listContains("passes", "B"), [1, 3, 5]),
        "in": (ee.Filter.inList("name", ["n1", "n2"]), [k for k in range(COUNT) if k % 3]),
        "and": (
            ee.Filter.And(ee.Filter.eq("name", "n0"), ee.Filter.gt("cloud", 10)),
            [k for k in range(COUNT) if k % 3 == 0 and cloud[k] > 10],
        ),
        "or": (ee.Filter.Or(ee.Filter.eq("name", "n0"), ee.Filter.eq("name", "n1")),
               [k for k in range(COUNT) if k % 3 < 2]),
        "not": (ee.Filter.eq("name", "n0").Not(), [k for k in range(COUNT) if k % 3]),
        "null": (ee.Filter.notNull(["nothing"]), []),
        "range": (ee.Filter.rangeContains("cloud", 11, 37),
                  [k for k in range(COUNT) if 11 <= cloud[k] <= 37]),
        "date": (ee.Filter.date("2019-05-01", "2019-08-10"), [1, 2, 3]),
        "months": (ee.Filter.calendarRange(6, 8, "month"), [2, 3, 4]),
        "winter": (ee.Filter.calendarRange(10, 2, "month"), [6]),
        "starts": (ee.Filter.stringStartsWith("system:index", "img3"), [3]),
        "contains": (ee.Filter.stringContains("name", "2"), [2, 5]),
        "text": ("cloud < 20 and name == 'n0'",
                 [k for k in range(COUNT) if cloud[k] < 20 and k % 3 == 0]),
    }  # fmt: skip
    for name, (test, expected) in cases.items():
        assert indices(world, collection().filter(test)) == expected, name


def test_filter_bounds(world: World) -> None:
    assert len(indices(world, collection().filterBounds(box(5, 6, 5, 6)))) == COUNT
    assert not indices(world, collection().filterBounds(ee.Geometry.Point([0, 0])))


def test_order_limit_and_lists(world: World) -> None:
    by_cloud = sorted(range(COUNT), key=lambda k: (k * 37) % 50)
    assert indices(world, collection().sort("cloud")) == by_cloud
    assert indices(world, collection().sort("cloud", False)) == by_cloud[::-1]
    assert indices(world, collection().limit(2, "cloud")) == by_cloud[:2]
    assert world.earth.info(collection().size()) == COUNT
    assert world.earth.info(collection().first().get("system:index")) == "img0"
    last = ee.Image(collection().toList(COUNT).get(-1))
    assert world.earth.info(last.get("system:index")) == f"img{COUNT - 1}"


def test_map_keeps_the_index_and_is_lazy(world: World) -> None:
    "map keeps system:index (ee tests)."
    mapped = collection().map(lambda i: ee.Image(1).set("k", i.get("cloud")))
    assert indices(world, mapped) == list(range(COUNT))
    # The failing element is never made when only the first is asked for.
    failing = collection().map(lambda i: i.select(ee.String("a")))
    assert world.earth.info(failing.first().bandNames()) == ["a"]


def test_iterate_takes_element_then_result(world: World) -> None:
    "[S] iterate: function(element, accumulator)."
    total = collection().iterate(
        lambda image, so_far: ee.Number(so_far).add(image.getNumber("cloud")), 0
    )
    assert world.earth.info(total) == sum((k * 37) % 50 for k in range(COUNT))


def test_aggregates(world: World) -> None:
    cloud = np.array([(k * 37) % 50 for k in range(COUNT)], float)
    c = collection()
    assert world.earth.info(c.aggregate_mean("cloud")) == pytest.approx(cloud.mean())
    assert world.earth.info(c.aggregate_max("cloud")) == cloud.max()
    assert world.earth.info(c.aggregate_sum("cloud")) == cloud.sum()
    assert world.earth.info(c.aggregate_total_sd("cloud")) == pytest.approx(cloud.std())
    assert world.earth.info(c.aggregate_histogram("name")) == {"n0": 3, "n1": 2, "n2": 2}
    assert world.earth.info(c.aggregate_count_distinct("name")) == 3


def test_the_request_of_xee(world: World) -> None:
    "Section 1.3: a list of size, dictionary, first and repeated toList."
    c = collection()
    columns = c.reduceColumns(
        ee.Reducer.toList().repeat(2), ["system:id", "system:time_start"]
    ).get("list")
    found = world.earth.info(ee.List([c.size(), c.toDictionary(), c.first(), columns]))
    assert found[0] == COUNT
    assert found[3][0] == [f"T/c/img{k}" for k in range(COUNT)]
    assert found[3][1] == [(18000 + 30 * k) * DAY for k in range(COUNT)]
    image = ee.Image(c.toList(1, 2).get(0)).select(["a"]).unmask(2147483647, False)
    data = world.earth.data(image, native(SIZE, SIZE))
    expected = np.where(world.masks[2, 0], world.stack[2, 0].astype(float), 2147483647)
    np.testing.assert_array_equal(data, expected)


REDUCTIONS = {
    "median": np.nanmedian, "mean": np.nanmean, "min": np.nanmin, "max": np.nanmax,
    "sum": np.nansum, "product": np.nanprod,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_reductions_are_numpys(world: World, name: str) -> None:
    "reduce.* over valid values, names kept, masked where no image has a value."
    found = getattr(collection(), name)()
    pixels = world.earth.pixels(found, native(SIZE, SIZE))
    assert list(pixels) == ["a", "b"]
    for b, key in enumerate(("a", "b")):
        data, mask = pixels[key]
        seen = world.masks[:, b].any(axis=0)
        np.testing.assert_array_equal(mask > 0, seen)
        with np.errstate(all="ignore"):
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = REDUCTIONS[name](world.valid(b), axis=0)
        np.testing.assert_allclose(data[seen], expected[seen], rtol=1e-12)


@pytest.mark.parametrize(
    ("reducer", "suffixes", "oracle"),
    [
        (lambda: ee.Reducer.stdDev(), ["stdDev"], lambda v: [np.nanstd(v, axis=0)]),
        (lambda: ee.Reducer.variance(), ["variance"], lambda v: [np.nanvar(v, axis=0)]),
        (
            lambda: ee.Reducer.percentile([10, 50, 90]),
            ["p10", "p50", "p90"],
            lambda v: list(np.nanpercentile(v, [10, 50, 90], axis=0)),
        ),
        (
            lambda: ee.Reducer.minMax(),
            ["min", "max"],
            lambda v: [np.nanmin(v, axis=0), np.nanmax(v, axis=0)],
        ),
        (
            lambda: ee.Reducer.mean().combine(ee.Reducer.count(), "", True),
            ["mean", "count"],
            lambda v: [np.nanmean(v, axis=0), np.isfinite(v).sum(axis=0)],
        ),
    ],
)
def test_image_collection_reduce(world: World, reducer, suffixes, oracle) -> None:  # type: ignore[no-untyped-def]
    "[A] ImageCollection.reduce: outputs are named band_output."
    import warnings

    pixels = world.earth.pixels(collection().reduce(reducer()), native(SIZE, SIZE))
    assert list(pixels) == [f"{b}_{s}" for b in "ab" for s in suffixes]
    seen = world.masks[:, 0].any(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(world.valid(0))
    for suffix, array in zip(suffixes, expected, strict=True):
        np.testing.assert_allclose(
            pixels[f"a_{suffix}"][0][seen], array[seen], rtol=1e-9, atol=1e-9
        )


def test_mode_and_count_distinct(world: World) -> None:
    from scipy import stats

    found = world.earth.pixels(collection().mode(), native(SIZE, SIZE))["a"]
    seen = world.masks[:, 0].any(axis=0)
    expected = stats.mode(world.valid(0)[:, seen], axis=0, nan_policy="omit").mode
    np.testing.assert_array_equal(found[0][seen], expected)


def test_mosaic_puts_the_last_valid_on_top(world: World) -> None:
    "guides/ic_composite_mosaic."
    data, mask = world.earth.pixels(collection().mosaic(), native(SIZE, SIZE))["b"]
    expected = np.zeros((SIZE, SIZE))
    for k in range(COUNT):
        expected = np.where(world.masks[k, 1], world.stack[k, 1], expected)
    np.testing.assert_array_equal(mask > 0, world.masks[:, 1].any(axis=0))
    np.testing.assert_array_equal(data, expected)


def test_quality_mosaic_takes_all_bands_of_the_best_image(world: World) -> None:
    "apidocs: per pixel all bands from the image with the greatest quality."
    scored = collection().map(lambda i: i.addBands(i.select("a").multiply(100).rename("q")))
    pixels = world.earth.pixels(scored.qualityMosaic("q"), native(SIZE, SIZE))
    score = np.where(world.masks[:, 0], world.stack[:, 0].astype(float), -1)
    best = score.argmax(axis=0)
    seen = world.masks[:, 0].any(axis=0)
    rows, cols = np.indices((SIZE, SIZE))
    np.testing.assert_array_equal(pixels["a"][0][seen], world.stack[best, 0, rows, cols][seen])
    b_valid = world.masks[best, 1, rows, cols] & seen
    np.testing.assert_array_equal(pixels["b"][1] > 0, b_valid)
    np.testing.assert_array_equal(
        pixels["b"][0][b_valid], world.stack[best, 1, rows, cols][b_valid]
    )


def test_small_memory_gives_the_same(world: World) -> None:
    "A stack that does not fit is reduced in strips."
    image = collection().median()
    whole = world.earth.pixels(image, native(SIZE, SIZE))
    tight = world.earth.pixels(
        image, native(SIZE, SIZE), Limits(stack_bytes=20_000, cache_bytes=10_000, threads=1)
    )
    for key in whole:
        np.testing.assert_array_equal(whole[key][0], tight[key][0])


def test_to_bands_and_image_reduce(world: World) -> None:
    "[A] toBands: index_band; Image.reduce names bands by the outputs."
    found = collection().limit(2).toBands()
    assert world.earth.info(found.bandNames()) == ["img0_a", "img0_b", "img1_a", "img1_b"]
    reduced = ee.Image("T/c/img0").reduce(ee.Reducer.max())
    assert world.earth.info(reduced.bandNames()) == ["max"]
    raw = world.earth.pixels(ee.Image("T/c/img0"), native(SIZE, SIZE))
    both = (raw["a"][1] > 0) & (raw["b"][1] > 0)
    data = world.earth.data(reduced, native(SIZE, SIZE))
    np.testing.assert_array_equal(data[both], np.maximum(raw["a"][0], raw["b"][0])[both])


def test_merge_prefixes_indices(world: World) -> None:
    "[A] Collection.merge."
    merged = collection().limit(1).merge(collection().limit(1))
    assert world.earth.info(merged.aggregate_array("system:index")) == ["1_img0", "2_img0"]


def test_bands_are_matched_by_name_in_mixed_collections(world: World) -> None:
    first = ee.Image([1, 2]).rename(["a", "b"])
    second = ee.Image([10]).rename(["b"])
    found = world.earth.pixels(ee.ImageCollection([first, second]).sum(), native(1, 1))
    assert {k: float(v[0][0, 0]) for k, v in found.items()} == {"a": 1, "b": 12}


def test_linear_fit_per_pixel(world: World) -> None:
    "Two inputs: bands x and y of every image."
    lines = collection().map(
        lambda i: ee.Image(i.getNumber("cloud")).addBands(
            ee.Image(i.getNumber("cloud")).multiply(3).add(2)
        )
    )
    found = world.earth.pixels(lines.reduce(ee.Reducer.linearFit()), native(2, 2))
    assert found["scale"][0][0, 0] == pytest.approx(3)
    assert found["offset"][0][0, 0] == pytest.approx(2)


def test_joins(world: World) -> None:
    left, right = collection(), collection().filter(ee.Filter.lt("cloud", 20))
    same = ee.Filter.equals(leftField="system:index", rightField="system:index")
    few = [k for k in range(COUNT) if (k * 37) % 50 < 20]
    simple = ee.ImageCollection(ee.Join.simple().apply(left, right, same))
    assert indices(world, simple) == few
    inverted = ee.ImageCollection(ee.Join.inverted().apply(left, right, same))
    assert indices(world, inverted) == [k for k in range(COUNT) if k not in few]
    saved = ee.ImageCollection(ee.Join.saveFirst("m").apply(left, right, same))
    assert world.earth.info(ee.Image(saved.first().get("m")).get("system:index")) == f"img{few[0]}"


def test_link_collection(world: World) -> None:
    "[A] Image.linkCollection: bands of the image with the same index."
    linked = ee.Image("T/c/img3").select("a").linkCollection(collection(), ["b"])
    assert world.earth.info(linked.bandNames()) == ["a", "b"]
    data, mask = world.earth.pixels(linked, native(SIZE, SIZE))["b"]
    np.testing.assert_array_equal(mask > 0, world.masks[3, 1])
    np.testing.assert_array_equal(data[mask > 0], world.stack[3, 1][mask > 0])


def test_reduce_columns_and_groups(world: World) -> None:
    cloud = [(k * 37) % 50 for k in range(COUNT)]
    found = world.earth.info(
        collection().reduceColumns(
            ee.Reducer.sum().group(groupField=1, groupName="name"), ["cloud", "name"]
        )
    )
    assert found == {
        "groups": [
            {"name": f"n{g}", "sum": sum(c for k, c in enumerate(cloud) if k % 3 == g)}
            for g in range(3)
        ]
    }
    with pytest.raises(EngineError, match="Need 1 selectors"):
        world.earth.value(collection().reduceColumns(ee.Reducer.mean(), ["cloud", "name"]))


def test_collection_json_lists_images(world: World) -> None:
    found = world.earth.info(collection().limit(2))
    assert found["type"] == "ImageCollection"
    assert [f["id"] for f in found["features"]] == ["T/c/img0", "T/c/img1"]
    json.dumps(found)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_sorting_networks_sort(rows: list[list[int]]) -> None:
    "Any number of layers."
    found = kernels.sort_stack([np.array(r) for r in rows])
    np.testing.assert_array_equal(np.stack(found), np.sort(np.array(rows), axis=0))


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=12),
    st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_quantiles_of_valid_values(values: list[tuple[int, bool]], share: float) -> None:
    layers = [np.array([[float(v)]]) for v, _ in values]
    masks = [np.array([[m]]) for _, m in values]
    ordered, count = kernels.sorted_valid(layers, masks, np.float64)
    good = [v for v, m in values if m]
    found = kernels.quantile_sorted(ordered, count, share)[0, 0]
    if good:
        assert found == pytest.approx(np.quantile(good, share))
