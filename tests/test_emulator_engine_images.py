"""Image math: types, matched bands, masks, names, expressions."""

from __future__ import annotations

from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, box, earth, native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gee.emulator.errors import EngineError
from gee.emulator.expressions import parse, scalar
from gee.emulator.types import PixelType

SIZE = 64


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    random = np.random.default_rng(2)
    with earth(tmp_path_factory.mktemp("images")) as found:
        mask = random.random((SIZE, SIZE)) > 0.3
        other = random.random((SIZE, SIZE)) > 0.3
        found.put(
            "T/two",
            band("B4", random.integers(0, 10_000, (SIZE, SIZE)).astype(np.uint16), mask),
            band("B8", random.integers(0, 10_000, (SIZE, SIZE)).astype(np.uint16), other),
            cloud=12.5,
        )
        found.put(
            "T/float",
            band("f", random.normal(size=(SIZE, SIZE)).astype(np.float32)),
            start=1_500_000_000_000,
        )
        yield found


def kind(world: Earth, image: ee.Image) -> dict:
    found = world.info(image)["bands"][0]["data_type"]
    return {k: v for k, v in found.items() if k != "type"}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ee.Image(1), {"precision": "int", "min": 1, "max": 1}),
        (lambda: ee.Image(1.5), {"precision": "double", "min": 1.5, "max": 1.5}),
        (lambda: ee.Image(1).add(2), {"precision": "int", "min": 3, "max": 3}),
        (
            lambda: ee.Image("T/two").select("B4").add(1),
            {"precision": "int", "min": 1, "max": 65536},
        ),
        (lambda: ee.Image("T/two").gt(3), {"precision": "int", "min": 0, "max": 1}),
        (lambda: ee.Image("T/two").toByte(), {"precision": "int", "min": 0, "max": 255}),
        (lambda: ee.Image("T/float").add(1), {"precision": "double"}),
        (lambda: ee.Image("T/float").float().sqrt(), {"precision": "float"}),
        (
            lambda: ee.Image("T/two").select("B4").divide(10000),
            {"precision": "float", "min": 0, "max": pytest.approx(6.5535)},
        ),
        (
            lambda: ee.Image("T/two").normalizedDifference(["B8", "B4"]),
            {"precision": "float", "min": -1, "max": 1},
        ),
    ],
)  # fmt: skip
def test_pixel_types(world: Earth, make, expected: dict) -> None:  # type: ignore[no-untyped-def]
    "apidocs ee-image-constant; [A] Image.add: the union of the input types."
    found = kind(world, make())
    if expected == {"precision": "double"}:
        assert found["precision"] in ("float", "double")
    else:
        assert found == expected


def test_bands_pair_by_name_order_or_broadcast(world: Earth) -> None:
    "[A] Image.add."
    ab = ee.Image([1, 2]).rename(["a", "b"])
    ba = ee.Image([10, 20]).rename(["b", "a"])
    cd = ee.Image([10, 20]).rename(["c", "d"])

    def values(image: ee.Image) -> dict[str, float]:
        return {k: float(v[0][0, 0]) for k, v in world.pixels(image, native(1, 1)).items()}

    assert values(ab.add(ba)) == {"a": 21, "b": 12}
    assert values(ab.add(cd)) == {"a": 11, "b": 22}
    assert values(ab.add(5)) == {"a": 6, "b": 7}
    assert values(ee.Image(5).rename("x").add(ab)) == {"a": 6, "b": 7}


def test_a_result_is_valid_where_both_inputs_are(world: Earth) -> None:
    "guides/image_math."
    image = ee.Image("T/two")
    both = world.pixels(image)
    total = world.pixels(image.select("B4").add(image.select("B8")))["B4"]
    np.testing.assert_array_equal(total[1] > 0, (both["B4"][1] > 0) & (both["B8"][1] > 0))


def test_division_by_zero_gives_zero(world: Earth) -> None:
    "[A] Image.divide, Image.mod."
    assert world.data(ee.Image(5).divide(0), native(1, 1))[0, 0] == 0
    assert world.data(ee.Image(5).mod(0), native(1, 1))[0, 0] == 0


def test_atan2_takes_x_first(world: Earth) -> None:
    "[G] ee_number_atan2."
    assert world.data(ee.Image(1).atan2(0), native(1, 1))[0, 0] == 0
    assert world.info(ee.Number(1).atan2(0)) == 0


def test_normalized_difference(world: Earth) -> None:
    "[A]: (first - second) / (first + second), band nd, no properties, negatives masked."
    image = ee.Image("T/two")
    found = image.normalizedDifference(["B8", "B4"])
    info = world.info(found)
    assert [b["id"] for b in info["bands"]] == ["nd"]
    assert set(info.get("properties", {})) <= {"system:footprint"}
    data = world.data(found)
    raw = world.pixels(image)
    b4, b8 = raw["B4"][0].astype(float), raw["B8"][0].astype(float)
    good = np.isfinite(data) & (b8 + b4 > 0)
    expected = (b8 - b4)[good] / (b8 + b4)[good]
    np.testing.assert_allclose(data[good], expected, rtol=1e-6)
    negative = ee.Image([-1, 2]).normalizedDifference()
    assert np.isnan(world.data(negative, native(1, 1))).all()


def test_update_mask_and_mask_and_unmask(world: Earth) -> None:
    "[A] Image.updateMask, Image.mask, Image.unmask."
    image = ee.Image("T/two").select("B4")
    data, mask = world.pixels(image)["B4"]
    half = ee.Image("T/float").gt(0)
    positive = world.data(half) == 1
    updated = world.pixels(image.updateMask(half))["B4"]
    np.testing.assert_array_equal(updated[1] > 0, (mask > 0) & positive)
    set_to = world.pixels(image.mask(half))["B4"]
    np.testing.assert_array_equal(set_to[1] > 0, positive)
    assert (set_to[0][(mask == 0) & positive] == 0).all()
    np.testing.assert_array_equal(world.data(image.mask()), (mask > 0).astype(float))
    filled = world.pixels(image.unmask(-9, False))["B4"]
    assert (filled[1] > 0).all()
    assert (filled[0][mask == 0] == -9).all()
    np.testing.assert_array_equal(filled[0][mask > 0], data[mask > 0])


def test_unmask_keeps_the_footprint_unless_told_otherwise(world: Earth) -> None:
    "[D] ee-image-unmask: sameFootprint is true by default; xee sends false."
    image = ee.Image("T/two").select("B4")
    grid = native(10, 10, -5, -5)
    inside = np.zeros((10, 10), bool)
    inside[5:, 5:] = True
    np.testing.assert_array_equal(np.isfinite(world.data(image.unmask(0), grid)), inside)
    assert np.isfinite(world.data(image.unmask(0, False), grid)).all()


def test_where_ignores_masked_tests_and_values(world: Earth) -> None:
    "[A] Image.where."
    image = ee.Image("T/two")
    base = ee.Image("T/float")
    data = world.data(base.where(image.select("B4").gt(5000), image.select("B8")))
    raw = world.pixels(image)
    take = (raw["B4"][0] > 5000) & (raw["B4"][1] > 0) & (raw["B8"][1] > 0)
    np.testing.assert_allclose(data, np.where(take, raw["B8"][0], world.data(base)))


def test_remap(world: Earth) -> None:
    "[A] Image.remap: unmatched values are masked, or get the default."
    image = ee.Image("T/two").select("B4").unmask(0).mod(5)
    raw = world.data(image)
    found = world.data(image.remap([0, 1, 2], [10, 20, 30]))
    np.testing.assert_array_equal(
        found, np.select([raw == 0, raw == 1, raw == 2], [10, 20, 30], np.nan)
    )
    full = world.data(image.remap([0, 1, 2], [10, 20, 30], 99))
    np.testing.assert_array_equal(full, np.select([raw == 0, raw == 1, raw == 2], [10, 20, 30], 99))
    assert world.info(image.remap([1], [2]))["bands"][0]["id"] == "remapped"


def test_properties_through_operations(world: Earth) -> None:
    "Math drops them; select, rename, updateMask, casts and addBands keep them (section 4.2)."
    image = ee.Image("T/two")
    assert world.info(image.add(1).get("cloud")) is None
    for kept in (
        image.select("B4"), image.rename(["a", "b"]), image.updateMask(1), image.toFloat(),
        image.addBands(ee.Image(1)), image.clip(box(0, 5, 0, 5)), image.resample("bilinear"),
    ):  # fmt: skip
        assert world.info(kept.get("cloud")) == 12.5
    copied = image.add(1).copyProperties(image)
    assert world.info(copied.get("cloud")) == 12.5
    assert world.info(image.add(1).copyProperties(image).get("system:index")) is None
    assert world.info(ee.Image("T/float").date().millis()) == 1_500_000_000_000


def test_band_selection(world: Earth) -> None:
    "[A] Image.select: names, expressions, numbers; addBands suffixes twins."
    image = ee.Image("T/two")
    assert world.info(image.select("B.*").bandNames()) == ["B4", "B8"]
    assert world.info(image.select([1, "B4"], ["x", "y"]).bandNames()) == ["x", "y"]
    assert world.info(image.addBands(image).bandNames()) == ["B4", "B8", "B4_1", "B8_1"]
    assert world.info(image.addBands(image, None, True).bandNames()) == ["B4", "B8"]
    assert world.info(ee.Image([1, 2]).bandNames()) == ["constant", "constant_1"]
    assert world.info(ee.Image.constant([1, 2]).bandNames()) == ["constant_0", "constant_1"]
    assert world.info(image.slice(1).bandNames()) == ["B8"]
    with pytest.raises(EngineError, match=r"Image.select: Band pattern 'B9' did not match"):
        world.value(image.select("B9"))
    with pytest.raises(EngineError, match=r"Image.rename: The number of names \(1\)"):
        world.value(image.rename(["a"]))


def test_casts_go_towards_zero_and_clamp(world: Earth) -> None:
    value = ee.Image([-3.7, 300.2, 3.999]).rename(["a", "b", "c"])
    found = {k: int(v[0][0, 0]) for k, v in world.pixels(value.toUint8(), native(1, 1)).items()}
    assert found == {"a": 0, "b": 255, "c": 3}
    assert world.info(ee.Number(-3.7).toInt()) == -3
    assert world.info(ee.Number(-1).toInt8()) == -1


def test_expression_divides_integers_with_floor(world: Earth) -> None:
    "guides/image_math: integer division in expressions, unlike Image.divide."
    assert world.data(ee.Image(7).expression("b(0) / 2"), native(1, 1))[0, 0] == 3
    assert world.data(ee.Image(7).divide(2), native(1, 1))[0, 0] == 3.5
    assert world.data(ee.Image(7.0).expression("b('constant') / 2.0"), native(1, 1))[0, 0] == 3.5


def test_expression_of_bands_and_images(world: Earth) -> None:
    image = ee.Image("T/two").unmask(1)
    found = image.expression(
        "2.5 * (NIR - RED) / (NIR + 6 * RED + 1.0) + (c > 0 ? a.B4 : b('B8')) * 0 + Math.PI",
        {"NIR": image.select("B8"), "RED": image.select("B4"), "c": 1, "a": image},
    )
    raw = world.pixels(image)
    r, n = raw["B4"][0].astype(float), raw["B8"][0].astype(float)
    np.testing.assert_allclose(
        world.data(found), 2.5 * (n - r) / (n + 6 * r + 1) + np.pi, rtol=1e-5
    )


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_expressions_of_numbers_agree_with_python(a: int, b: int, c: int) -> None:
    "Precedence and integer division against Python's own parser."
    for text in ("a + b * c", "(a + b) * c", "a - b - c", "a / c + b", "-a ** 2 + b", "a % c"):
        found = scalar(parse(text), {"a": a, "b": b, "c": c})
        if "%" in text:
            expected = np.fmod(a, c)
        else:
            expected = eval(text.replace("/", "//"), {"a": a, "b": b, "c": c})
        assert found == expected
    assert scalar(parse("a > b && b < c || !(a)"), {"a": a, "b": b, "c": c}) == int(
        (a > b and b < c) or not a
    )


OPERATIONS = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "max": np.maximum,
    "min": np.minimum, "gt": np.greater, "lte": np.less_equal, "eq": np.equal,
    "bitwiseAnd": np.bitwise_and, "bitwiseOr": np.bitwise_or, "bitwiseXor": np.bitwise_xor,
}  # fmt: skip


@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    first=st.sampled_from(["uint8", "int16", "uint16", "int32"]),
    second=st.sampled_from(["uint8", "int16", "uint16", "int32"]),
    seed=st.integers(0, 2**16),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_integers_never_overflow(
    world: Earth, name: str, first: str, second: str, seed: int
) -> None:
    "Types grow with the values (interval arithmetic): sums and products are exact."
    random = np.random.default_rng(seed)
    arrays = [
        random.integers(np.iinfo(k).min, np.iinfo(k).max, (2, 2), dtype=k, endpoint=True)
        for k in (first, second)
    ]
    for k, array in enumerate(arrays):
        world.put(f"T/random_{k}", band("v", array))
    found = getattr(ee.Image("T/random_0"), name)(ee.Image("T/random_1"))
    data = world.pixels(found, native(2, 2))["v"][0]
    expected = (
        OPERATIONS[name](*(a.astype(object) for a in arrays))
        if name[0] != "b"
        else (OPERATIONS[name](*(a.astype(np.int64) for a in arrays)))
    )
    assert data.astype(object).tolist() == np.asarray(expected).astype(int).tolist()


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "sqrt", "exp", "log", "log10", "abs",
                                  "floor", "ceil", "cbrt", "atan", "signum"])  # fmt: skip
def test_functions_of_one_value_are_numpys(world: Earth, name: str) -> None:
    image = ee.Image("T/float").abs().add(0.1)
    numpy_name = {"atan": "arctan", "signum": "sign"}.get(name, name)
    expected = getattr(np, numpy_name)(world.data(image))
    np.testing.assert_allclose(world.data(getattr(image, name)()), expected, rtol=1e-6)


def test_visualize(world: Earth) -> None:
    image = ee.Image("T/two").unmask(0)
    found = world.pixels(image.visualize(bands=["B4"], min=0, max=10000))
    assert list(found) == ["vis-gray"]
    raw = world.data(image.select("B4"))
    assert np.abs(found["vis-gray"][0] - raw / 10000 * 255).max() <= 1
    rgb = world.pixels(image.visualize(["B4"], min=0, max=10000, palette=["red", "0000FF"]))
    assert list(rgb) == ["vis-red", "vis-green", "vis-blue"]
    assert rgb["vis-green"][0].max() == 0


def test_pixel_coordinates(world: Earth) -> None:
    "Centres in degrees and areas on the ellipsoid, against pyproj."
    from pyproj import Geod, Transformer

    lonlat = world.pixels(ee.Image.pixelLonLat(), native(4, 4, 7, 9))
    change = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    x, y = np.meshgrid(500_095 + 10 * np.arange(4), 6_699_925 - 10 * np.arange(4))
    lon, lat = change.transform(x, y)
    np.testing.assert_allclose(lonlat["longitude"][0], lon, atol=1e-8)
    np.testing.assert_allclose(lonlat["latitude"][0], lat, atol=1e-8)
    ring = change.transform([500_090, 500_100, 500_100, 500_090], [6_699_930] * 2 + [6_699_920] * 2)
    exact = abs(Geod(ellps="WGS84").polygon_area_perimeter(*ring)[0])
    area = world.pixels(ee.Image.pixelArea(), native(1, 1, 7, 9))["area"][0][0, 0]
    assert area == pytest.approx(exact, rel=1e-4)


def test_types_are_read_in_all_their_forms() -> None:
    assert PixelType.coerce("int16") == PixelType("int", -32768, 32767)
    assert PixelType.coerce({"type": "PixelType", "precision": "float"}) == PixelType("float")
    with pytest.raises(EngineError, match="Invalid pixel type 'int17'"):
        PixelType.coerce("int17")
