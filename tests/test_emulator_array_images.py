"""Images whose pixels are arrays, against numpy on the same numbers.

Descriptions of the functions are those of the installed client's list ([A],
ee/tests/algorithms.json); uses are those of guides/arrays_intro, arrays_array_images,
arrays_transformations, arrays_sorting and reducers_regression.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native
from numpy.typing import NDArray

from gee.emulator.cells import cell
from gee.emulator.errors import EngineError
from gee.emulator.image import Image
from gee.emulator.pixels import Limits, render
from gee.emulator.protocol import Endpoint
from gee.emulator.signatures import signatures
from gee.emulator.transport import Transport

SIZE = 12
YEARS = 7
RNG = np.random.default_rng(20)
STACK = RNG.normal(2, 3, (YEARS, SIZE, SIZE)).round(3)
OTHER = RNG.integers(0, 50, (YEARS, SIZE, SIZE))
VALID = RNG.random((YEARS, SIZE, SIZE)) > 0.25
VALID[:, 0, 0] = False
VALID[:, 0, 1:] = True

Array = NDArray[Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("array_images")) as found:
        for name, mask in (("full", None), ("holes", VALID)):
            found.catalog.put_collection(f"T/{name}")
            for year in range(YEARS):
                found.put(
                    f"T/{name}/{year}",
                    band("t", np.full((SIZE, SIZE), float(year))),
                    band("a", STACK[year], None if mask is None else mask[year]),
                    band("b", OTHER[year].astype(np.int16)),
                    start=year,
                )
        yield found


def cells(world: Earth, image: ee.Image, limits: Limits | None = None) -> dict[str, Any]:
    """Return per band an object array of numpy arrays, None where masked."""
    found = {}
    for name, (data, mask) in world.pixels(image, native(SIZE, SIZE), limits).items():
        out = np.empty((SIZE, SIZE), object)
        for place in np.ndindex(SIZE, SIZE):
            out[place] = np.asarray(cell(data[place])) if mask[place] > 0 else None
        found[name] = out
    return found


def only(world: Earth, image: ee.Image) -> Any:
    (found,) = cells(world, image).values()
    return found


def same(found: Any, expected: Any) -> None:
    """Compare per-pixel arrays (or None) with those of a function of the pixel's place."""
    for place in np.ndindex(SIZE, SIZE):
        want = expected(*place)
        if want is None:
            assert found[place] is None, place
        else:
            assert found[place] is not None, place
            want = np.asarray(want)
            assert found[place].shape == want.shape, place
            np.testing.assert_allclose(found[place], want, rtol=1e-9, atol=1e-9)


def full() -> ee.ImageCollection:
    return ee.ImageCollection("T/full")


def holes() -> ee.ImageCollection:
    return ee.ImageCollection("T/holes")


def matrix(r: int, c: int) -> Array:
    return np.stack([np.arange(YEARS), STACK[:, r, c], OTHER[:, r, c]], axis=1)


def matrix_of_valid(r: int, c: int) -> Array | None:
    keep = VALID[:, r, c]
    return matrix(r, c)[keep] if keep.any() else None


# ------------------------------------------------------------------ making


def test_bands_to_arrays_and_back(world: Earth) -> None:
    "[A] Image.toArray: along axis 0; a further axis if it is the dimension of the inputs."
    image = ee.Image("T/full/2").select(["a", "b"])
    vector = lambda r, c: [STACK[2, r, c], OTHER[2, r, c]]  # noqa: E731
    same(only(world, image.toArray()), vector)
    same(only(world, image.toArray().toArray(1)), lambda r, c: np.array(vector(r, c))[:, None])
    back = world.pixels(image.toArray().arrayFlatten([["x", "y"]]), native(SIZE, SIZE))
    np.testing.assert_allclose(back["x"][0], STACK[2])
    np.testing.assert_allclose(back["y"][0], OTHER[2])
    for place, expected in ((0, STACK[2]), (1, OTHER[2])):
        np.testing.assert_allclose(
            world.data(image.toArray().arrayGet(place), native(SIZE, SIZE)), expected
        )
    masked = ee.Image("T/holes/2").select(["a", "b"]).toArray()
    same(only(world, masked), lambda r, c: vector(r, c) if VALID[2, r, c] else None)


def test_flatten_names_every_combination(world: Earth) -> None:
    "[A] Image.arrayFlatten: 'monday_red', 'monday_green', 'tuesday_red', 'tuesday_green'."
    image = ee.Image(ee.Array([[1, 2], [3, 4]]))
    labels = [["monday", "tuesday"], ["red", "green"]]
    pixels = world.pixels(image.arrayFlatten(labels), native(1, 1))
    assert {k: v[0].item() for k, v in pixels.items()} == {
        "monday_red": 1, "monday_green": 2, "tuesday_red": 3, "tuesday_green": 4
    }  # fmt: skip
    assert list(world.pixels(image.arrayFlatten(labels, "/"), native(1, 1)))[1] == "monday/green"
    with pytest.raises(EngineError, match="labels for"):
        world.pixels(image.arrayFlatten([["x"], ["y", "z"]]), native(1, 1))
    with pytest.raises(EngineError, match="2 dimension"):
        world.value(image.arrayFlatten([["x"]]))


def test_collection_to_array(world: Earth) -> None:
    "[A] ImageCollection.toArray: valid images along axis 0, bands along axis 1."
    same(only(world, full().toArray()), matrix)
    same(only(world, holes().toArray()), matrix_of_valid)
    info = world.info(full().select("b").toArray())["bands"][0]["data_type"]
    assert info == {
        "type": "PixelType", "precision": "int", "min": -32768, "max": 32767, "dimensions": 2
    }  # fmt: skip


def test_collection_to_array_per_band(world: Earth) -> None:
    "[A] ImageCollection.toArrayPerBand: dropMasked leaves masked images out."
    found = cells(world, holes().toArrayPerBand())
    same(found["a"], lambda r, c: STACK[:, r, c] if VALID[:, r, c].all() else None)
    same(found["b"], lambda r, c: OTHER[:, r, c])
    dropped = cells(world, holes().toArrayPerBand(0, True))["a"]
    same(
        dropped,
        lambda r, c: STACK[VALID[:, r, c], r, c] if VALID[:, r, c].any() else None,
    )
    pairs = full().map(lambda i: i.select(["a", "b"]).toArray())
    same(
        only(world, pairs.toArrayPerBand(1)),
        lambda r, c: [STACK[:, r, c], OTHER[:, r, c]],
    )


def test_bits(world: Earth) -> None:
    "[A] Image.bitsToArrayImage: up to the highest bit that is on."
    image = ee.Image("T/full/0").select("b").bitsToArrayImage()
    same(
        only(world, image),
        lambda r, c: [int(v) for v in reversed(bin(OTHER[0, r, c])[2:])],
    )


@pytest.mark.parametrize(
    ("kernel", "shape", "centre"),
    [
        (lambda: ee.Kernel.square(1), (3, 3), (1, 1)),
        (lambda: ee.Kernel.rectangle(2, 1), (3, 5), (1, 2)),
        (lambda: ee.Kernel.fixed(3, 2, [[0, 1, 0], [0, 0, 1]], 2, 0), (2, 3), (0, 2)),
    ],
    ids=["square", "rectangle", "fixed"],
)
def test_neighbourhood(
    world: Earth, kernel: Any, shape: tuple[int, int], centre: tuple[int, int]
) -> None:
    "[A] Image.neighborhoodToArray: rows, columns; masked neighbours take the default value."

    def expected(r: int, c: int) -> Any:
        if not VALID[3, r, c]:
            return None
        out = np.full(shape, -9.5)
        for i, j in np.ndindex(shape):
            y, x = r + i - centre[0], c + j - centre[1]
            if 0 <= y < SIZE and 0 <= x < SIZE and VALID[3, y, x]:
                out[i, j] = STACK[3, y, x]
        return out

    image = ee.Image("T/holes/3").select("a").neighborhoodToArray(kernel(), -9.5)
    same(only(world, image), expected)
    with pytest.raises(EngineError, match="Only fixed, square and rectangle"):
        world.value(ee.Image(1).neighborhoodToArray(ee.Kernel.circle(2)))


def test_neighbourhood_default_is_of_the_band(world: Earth) -> None:
    "[A] the fractional part of the default is discarded, and it is clamped to the band's range."
    image = ee.Image("T/full/0").select("b").toUint8().updateMask(0)
    masked = (
        ee.Image("T/full/0")
        .select("b")
        .toUint8()
        .updateMask(ee.Image("T/holes/3").select("a").mask())
    )
    found = only(world, masked.neighborhoodToArray(ee.Kernel.square(1), 300.7))
    values = np.concatenate([v.ravel() for v in found.ravel() if v is not None])
    assert values.max() == 255
    assert only(world, image.neighborhoodToArray(ee.Kernel.square(1)))[3, 3] is None


# ------------------------------------------------------------------ shapes


def test_shapes(world: Earth) -> None:
    "Slices, joins, repeats, pads and transposes are numpy's, pixel by pixel."
    array = full().toArray()
    cases: list[tuple[ee.Image, Any]] = [
        (array.arraySlice(0, 1, 5), lambda m: m[1:5]),
        (array.arraySlice(0, -3), lambda m: m[-3:]),
        (array.arraySlice(0, 0, -2, 3), lambda m: m[0:-2:3]),
        (array.arraySlice(1, 1, 2), lambda m: m[:, 1:2]),
        (array.arrayTranspose(), lambda m: m.T),
        (array.matrixTranspose(0, 1), lambda m: m.T),
        (array.arrayCat(array, 0), lambda m: np.vstack([m, m])),
        (array.arrayCat(array, 1), lambda m: np.hstack([m, m])),
        (array.arrayCat(array, 2), lambda m: np.stack([m, m], axis=2)),
        (array.arrayRepeat(0, 2), lambda m: np.vstack([m, m])),
        (array.arrayRepeat(2, 3), lambda m: np.repeat(m[:, :, None], 3, axis=2)),
        (array.arrayPad([9, 4], -1), lambda m: np.pad(m, ((0, 2), (0, 1)), constant_values=-1)),
        (array.arrayPad([1, 1]), lambda m: m),
        (array.arraySlice(1, 0, 1).arrayProject([0]), lambda m: m[:, 0]),
        (array.arraySlice(0, 2, 3).arrayProject([1]), lambda m: m[2]),
        (array.arrayReshape(ee.Image(ee.Array([3, -1])), 2), lambda m: m.reshape(3, -1)),
        (array.arrayLengths(), lambda m: m.shape),
        (array.arrayLength(0), lambda m: m.shape[0]),
        (array.arrayDimensions(), lambda m: 2),
        (array.arrayArgmax(), lambda m: np.unravel_index(m.argmax(), m.shape)),
    ]
    for image, expected in cases:
        same(only(world, image), lambda r, c, e=expected: e(matrix(r, c)))  # type: ignore[misc]


def test_ends_of_slices_and_copies_may_differ_between_pixels(world: Earth) -> None:
    "[A] Image.arraySlice: where an end is masked the slice is not cut; arrayRepeat: copies."
    array = full().toArray().arraySlice(1, 1, 2)
    which = ee.Image("T/full/1").select("b").mod(4)
    number = OTHER[1] % 4
    same(
        only(world, array.arraySlice(0, which, which.add(3))),
        lambda r, c: matrix(r, c)[number[r, c] : number[r, c] + 3, 1:2],
    )
    end = which.updateMask(which.gt(1))
    same(
        only(world, array.arraySlice(0, 0, end)),
        lambda r, c: matrix(r, c)[: number[r, c] if number[r, c] > 1 else None, 1:2],
    )
    same(
        only(world, array.arrayRepeat(1, which.add(1))),
        lambda r, c: np.repeat(matrix(r, c)[:, 1:2], number[r, c] + 1, axis=1),
    )


def test_masks_and_sorts(world: Earth) -> None:
    "guides/arrays_sorting: sort by a column, then take the first rows."
    array = full().toArray()
    values = array.arraySlice(1, 1, 2)
    same(
        only(world, array.arraySort(values)),
        lambda r, c: matrix(r, c)[np.argsort(STACK[:, r, c], kind="stable")],
    )
    same(
        only(world, array.arraySort(values.multiply(-1)).arraySlice(0, 0, 2)),
        lambda r, c: matrix(r, c)[np.argsort(-STACK[:, r, c], kind="stable")][:2],
    )
    same(
        only(world, array.arrayMask(values.gt(2))),
        lambda r, c: matrix(r, c)[STACK[:, r, c] > 2],
    )
    same(only(world, values.arrayProject([0]).arraySort()), lambda r, c: np.sort(STACK[:, r, c]))
    ragged = holes().toArray().arraySlice(1, 1, 2)
    same(
        only(world, ragged.arrayMask(ragged.gt(2)).arrayLength(0)),
        lambda r, c: (STACK[VALID[:, r, c], r, c] > 2).sum() if VALID[:, r, c].any() else None,
    )


# ------------------------------------------------------------------ arithmetic


def test_arithmetic_of_arrays_and_numbers(world: Earth) -> None:
    "Element by element; numbers, scalar bands and constant arrays go with every element."
    array = full().toArray()
    scalar = ee.Image("T/full/0").select("a")
    row = ee.Image(ee.Array([[1.0, 2.0, 3.0]])).arrayRepeat(0, YEARS)
    cases: list[tuple[ee.Image, Any]] = [
        (array.add(array), lambda m, r, c: m + m),
        (array.multiply(2).subtract(1), lambda m, r, c: m * 2 - 1),
        (array.subtract(scalar), lambda m, r, c: m - STACK[0, r, c]),
        (scalar.subtract(array), lambda m, r, c: STACK[0, r, c] - m),
        (array.multiply(row), lambda m, r, c: m * [[1, 2, 3]]),
        (array.gt(3), lambda m, r, c: m > 3),
        (array.abs().sqrt(), lambda m, r, c: np.sqrt(np.abs(m))),
        (array.toInt(), lambda m, r, c: np.trunc(m)),
        (array.divide(0), lambda m, r, c: m * 0),
    ]
    for image, expected in cases:
        same(only(world, image), lambda r, c, e=expected: e(matrix(r, c), r, c))  # type: ignore[misc]
    with pytest.raises(EngineError, match=r"Array dimensions must match: \[7, 3\] and \[2, 3\]"):
        world.pixels(array.add(array.arraySlice(0, 0, 2)), native(2, 2))


def test_masks_of_array_pixels(world: Earth) -> None:
    "updateMask, unmask and where move array pixels whole; composites take the last or first."
    array = full().toArray().arraySlice(1, 1, 2).arrayProject([0])
    flag = ee.Image("T/full/0").select("b").gt(25)
    on = OTHER[0] > 25
    short = array.arraySlice(0, 0, 2)
    whole = lambda r, c: STACK[:, r, c]  # noqa: E731
    same(only(world, array.updateMask(flag)), lambda r, c: whole(r, c) if on[r, c] else None)
    mixed = lambda r, c: whole(r, c) if on[r, c] else STACK[:2, r, c]  # noqa: E731
    same(only(world, array.updateMask(flag).unmask(short)), mixed)
    same(only(world, short.where(flag, array)), mixed)
    same(only(world, ee.ImageCollection([short, array.updateMask(flag)]).mosaic()), mixed)
    same(only(world, mixed_first(short, array, flag)), mixed)
    with pytest.raises(EngineError, match="mask must be made of numbers"):
        world.pixels(array.updateMask(array), native(1, 1))


def mixed_first(short: ee.Image, array: ee.Image, flag: ee.Image) -> ee.Image:
    images = ee.ImageCollection([array.updateMask(flag), short])
    return images.reduce(ee.Reducer.firstNonNull())


# ------------------------------------------------------------------ reducing and matrices


@pytest.mark.parametrize(
    ("reducer", "oracle"),
    [
        (lambda: ee.Reducer.sum(), np.sum),
        (lambda: ee.Reducer.mean(), np.mean),
        (lambda: ee.Reducer.median(), np.median),
        (lambda: ee.Reducer.max(), np.max),
        (lambda: ee.Reducer.stdDev(), np.std),
        (lambda: ee.Reducer.percentile([30]), lambda m, axis, keepdims: np.percentile(
            m, 30, axis=axis, keepdims=keepdims)),
        (lambda: ee.Reducer.product(), np.prod),
    ],
    ids=["sum", "mean", "median", "max", "stdDev", "percentile", "product"],
)  # fmt: skip
def test_reducing(world: Earth, reducer: Any, oracle: Any) -> None:
    "[A] Image.arrayReduce: axes reduced have length 1."
    for axes in ([0], [1], [0, 1]):
        image = full().toArray().arrayReduce(reducer(), axes)
        same(
            only(world, image),
            lambda r, c, a=tuple(axes): oracle(matrix(r, c), axis=a, keepdims=True),  # type: ignore[misc]
        )
    image = holes().toArray().arrayReduce(reducer(), [0])

    def of_valid(r: int, c: int) -> Any:
        table = matrix_of_valid(r, c)
        return None if table is None else oracle(table, axis=0, keepdims=True)

    same(only(world, image), of_valid)


def test_reducing_with_fields_and_running(world: Earth) -> None:
    "[A] Image.arrayReduce: fieldAxis holds the inputs and then the outputs; arrayAccum."
    line = full().toArray().arraySlice(1, 0, 2).arrayReduce(ee.Reducer.linearFit(), [0], 1)
    same(
        only(world, line),
        lambda r, c: [np.polyfit(np.arange(YEARS), STACK[:, r, c], 1)],
    )
    ends = full().toArray().arraySlice(1, 1, 2).arrayReduce(ee.Reducer.minMax(), [0], 1)
    same(only(world, ends), lambda r, c: [[STACK[:, r, c].min(), STACK[:, r, c].max()]])
    same(only(world, full().toArray().arrayAccum(0)), lambda r, c: np.cumsum(matrix(r, c), axis=0))
    same(
        only(world, full().toArray().arrayAccum(0, ee.Reducer.mean())),
        lambda r, c: np.cumsum(matrix(r, c), axis=0) / np.arange(1, YEARS + 1)[:, None],
    )
    with pytest.raises(EngineError, match="fieldAxis is required"):
        world.pixels(full().toArray().arrayReduce(ee.Reducer.minMax(), [0]), native(1, 1))


def test_matrices(world: Earth) -> None:
    "Products, inverses, determinants and decompositions are numpy's or multiply back."
    table = full().toArray()
    gram = table.matrixTranspose().matrixMultiply(table)
    g = lambda r, c: matrix(r, c).T @ matrix(r, c)  # noqa: E731
    same(only(world, gram), g)
    same(
        only(world, gram.matrixDeterminant().divide(1e6)), lambda r, c: np.linalg.det(g(r, c)) / 1e6
    )
    same(only(world, gram.matrixTrace()), lambda r, c: np.trace(g(r, c)))
    same(only(world, gram.matrixFnorm()), lambda r, c: np.linalg.norm(g(r, c)))
    same(only(world, gram.matrixInverse()), lambda r, c: np.linalg.inv(g(r, c)))
    same(only(world, table.matrixPseudoInverse()), lambda r, c: np.linalg.pinv(matrix(r, c)))
    same(only(world, gram.matrixDiagonal()), lambda r, c: np.diag(g(r, c))[:, None])
    same(only(world, gram.matrixDiagonal().matrixToDiag()), lambda r, c: np.diag(np.diag(g(r, c))))
    same(only(world, gram.matrixMultiply(ee.Image.matrixIdentity(3))), g)
    found = cells(world, gram.matrixCholeskyDecomposition())
    same(found["L"], lambda r, c: np.linalg.cholesky(g(r, c)))
    found = cells(world, table.matrixQRDecomposition())
    for place in np.ndindex(SIZE, SIZE):
        np.testing.assert_allclose(found["Q"][place] @ found["R"][place], matrix(*place), atol=1e-9)
    found = cells(world, gram.matrixLUDecomposition())
    for place in np.ndindex(SIZE, SIZE):
        np.testing.assert_allclose(
            found["L"][place] @ found["U"][place], found["P"][place] @ g(*place), atol=1e-6
        )
    found = cells(world, table.matrixSingularValueDecomposition())
    assert found["S"][0, 0].shape == (YEARS, 3)
    for place in np.ndindex(SIZE, SIZE):
        made = found["U"][place] @ found["S"][place] @ found["V"][place].T
        np.testing.assert_allclose(made, matrix(*place), atol=1e-9)


def test_singular_matrices_are_masked(world: Earth) -> None:
    "Where one pixel's matrix has no inverse the others have theirs."
    value = ee.Image("T/full/0").select("b").mod(2)
    square = value.addBands(0).toArray().toArray(1).arrayCat(ee.Image(ee.Array([[0], [1]])), 1)
    found = only(world, square.matrixInverse())
    same(found, lambda r, c: np.eye(2) if OTHER[0, r, c] % 2 else None)
    solved = square.matrixSolve(ee.Image(ee.Array([[3], [4]])))
    same(only(world, solved), lambda r, c: [[3], [4]] if OTHER[0, r, c] % 2 else None)


def trend_terms(image: ee.Image) -> ee.Image:
    return image.addBands(ee.Image(1).rename("one")).select(["one", "t", "a"]).toDouble()


def test_regression_by_matrices(world: Earth) -> None:
    "guides/arrays_array_images: least squares by matrixSolve and by the pseudo-inverse."
    array = holes().map(trend_terms).toArray()
    x, y = array.arraySlice(1, 0, 2), array.arraySlice(1, 2, 3)

    def expected(r: int, c: int) -> Any:
        keep = VALID[:, r, c]
        if not keep.any():
            return None
        design = np.stack([np.ones(YEARS), np.arange(YEARS)], axis=1)[keep]
        return np.linalg.lstsq(design, STACK[keep, r, c][:, None], rcond=None)[0]

    same(only(world, x.matrixSolve(y)), expected)
    same(only(world, x.matrixPseudoInverse().matrixMultiply(y)), expected)
    bands = x.matrixSolve(y).arrayProject([0]).arrayFlatten([["base", "slope"]])
    found = world.pixels(bands, native(SIZE, SIZE))
    for place in np.ndindex(SIZE, SIZE):
        want = expected(*place)
        assert bool(found["slope"][1][place]) == (want is not None)
        if want is not None:
            assert found["slope"][0][place] == pytest.approx(want[1, 0], abs=1e-9)


def test_regression_reducer_per_pixel(world: Earth) -> None:
    "guides/reducers_regression: coefficients and residuals are arrays; null where n <= numX."
    made = cells(world, holes().map(trend_terms).reduce(ee.Reducer.linearRegression(2, 1)))
    assert list(made) == ["coefficients", "residuals"]

    def solution(r: int, c: int) -> Any:
        keep = VALID[:, r, c]
        if keep.sum() <= 2:
            return None
        design = np.stack([np.ones(YEARS), np.arange(YEARS)], axis=1)[keep]
        found = np.linalg.lstsq(design, STACK[keep, r, c][:, None], rcond=None)[0]
        return found, np.sqrt(np.mean((STACK[keep, r, c] - (design @ found)[:, 0]) ** 2))

    same(made["coefficients"], lambda r, c: (solution(r, c) or [None])[0])
    same(made["residuals"], lambda r, c: None if solution(r, c) is None else [solution(r, c)[1]])


def test_principal_components(world: Earth) -> None:
    "guides/arrays_eigen_analysis: centre, covariance of a region, eigenvectors, projection."
    names = ["t", "a", "b"]
    image = ee.Image.cat(
        [ee.Image(f"T/full/{k}").select("a").rename(name) for k, name in enumerate(names)]
    )
    region = ee.Geometry.Rectangle([500000, 6699880, 500120, 6700000], "EPSG:32633", False)
    means = ee.Image.constant(image.reduceRegion(ee.Reducer.mean(), region, 10).values(names))
    centred = image.subtract(means)
    arrays = centred.toArray()
    covariance = arrays.reduceRegion(ee.Reducer.centeredCovariance(), region, 10)
    eigen = ee.Array(covariance.get("array")).eigen()
    values, vectors = eigen.slice(1, 0, 1), eigen.slice(1, 1)
    components = (
        ee.Image(vectors).matrixMultiply(arrays.toArray(1)).arrayProject([0])
        .arrayFlatten([["pc1", "pc2", "pc3"]])
        .divide(ee.Image(values.sqrt()).arrayProject([0]).arrayFlatten([["s1", "s2", "s3"]]))
    )  # fmt: skip
    found = world.pixels(components, native(SIZE, SIZE))
    table = STACK[:3].reshape(3, -1).T
    table = table - table.mean(axis=0)
    expected_values, expected = np.linalg.eigh(table.T @ table / len(table))
    for k, name in enumerate(["pc1", "pc2", "pc3"]):
        vector, value = expected[:, 2 - k], expected_values[2 - k]
        scores = (table @ vector / np.sqrt(value)).reshape(SIZE, SIZE)
        got = found[name][0]
        np.testing.assert_allclose(got * np.sign((got * scores).sum()), scores, atol=1e-9)
    np.testing.assert_allclose(np.ravel(world.info(values)), expected_values[::-1], rtol=1e-9)


def test_regression_over_a_region(world: Earth) -> None:
    "guides/reducers_regression: the coefficients of a region are an array to go on with."
    scene = ee.Image("T/full/0")
    image = scene.select("b").addBands(ee.Image(1)).addBands(scene.select("a"))
    region = ee.Geometry.Rectangle([500000, 6699880, 500120, 6700000], "EPSG:32633", False)
    for reducer in (ee.Reducer.linearRegression(2), ee.Reducer.robustLinearRegression(2, 1, 1e9)):
        found = image.reduceRegion(reducer, region, 10)
        coefficients = ee.Array(found.get("coefficients")).project([0])
        x = np.stack([OTHER[0].ravel(), np.ones(SIZE**2)], axis=1)
        expected = np.linalg.lstsq(x, STACK[0].ravel(), rcond=None)[0]
        np.testing.assert_allclose(world.info(coefficients), expected, rtol=1e-8)
        assert world.info(ee.List(found.get("coefficients")).get(0)) == pytest.approx([expected[0]])


@pytest.mark.parametrize("sum_to_one", [False, True])
@pytest.mark.parametrize("non_negative", [False, True])
def test_unmix(world: Earth, sum_to_one: bool, non_negative: bool) -> None:
    "[A] Image.unmix, against a general solver of constrained least squares."
    from scipy.optimize import minimize

    ends = np.array([[1.0, 0.2, 3.0], [4.0, 1.0, 0.0], [0.5, 5.0, 1.0]])
    image = ee.Image.cat([ee.Image(f"T/full/{k}").select(["a"], [f"x{k}"]) for k in range(3)])
    found = world.pixels(image.unmix(ends.tolist(), sum_to_one, non_negative), native(4, 4))
    assert list(found) == ["band_0", "band_1", "band_2"]
    for place in np.ndindex(4, 4):
        pixel = STACK[:3, place[0], place[1]]
        got = np.array([found[f"band_{k}"][0][place] for k in range(3)])
        constraints = [{"type": "eq", "fun": lambda v: v.sum() - 1}] if sum_to_one else []
        best = minimize(
            lambda v, p=pixel: ((v @ ends - p) ** 2).sum(),
            np.full(3, 1 / 3),
            jac=lambda v, p=pixel: 2 * ends @ (v @ ends - p),
            bounds=[(0, None)] * 3 if non_negative else None,
            constraints=constraints,
            options={"ftol": 1e-14, "maxiter": 500},
            method="SLSQP",
        )
        np.testing.assert_allclose(got, best.x, atol=1e-5)


# ------------------------------------------------------------------ into values


def test_array_pixels_as_values(world: Earth) -> None:
    "Arrays in reduceRegion, sample, getRegion and sampleRectangle."
    array = full().toArray().arraySlice(1, 1, 2).arrayProject([0])
    array = array.reproject(ee.Image("T/full/0").select("a").projection())
    here = ee.Geometry.Rectangle([500000, 6699980, 500030, 6700000], "EPSG:32633", False)
    block = STACK[:, :2, :3]
    first = world.info(array.reduceRegion(ee.Reducer.first(), here, 10))
    np.testing.assert_allclose(first["array"], block[:, 0, 0])
    listed = world.info(array.reduceRegion(ee.Reducer.toList(), here, 10))
    np.testing.assert_allclose(listed["array"], block.reshape(YEARS, -1).T)
    means = world.info(array.reduceRegion(ee.Reducer.mean().forEachElement(), here, 10))
    np.testing.assert_allclose(means["array"], block.mean(axis=(1, 2)))
    spread = world.info(array.reduceRegion(ee.Reducer.covariance(), here, 10))
    np.testing.assert_allclose(spread["array"], np.cov(block.reshape(YEARS, -1), bias=True))
    with pytest.raises(EngineError, match=r"Reducer.mean takes numbers, not arrays"):
        world.info(array.reduceRegion(ee.Reducer.mean(), here, 10))
    rows = world.info(array.sample(here, 10))["features"]
    np.testing.assert_allclose(
        sorted(f["properties"]["array"] for f in rows), sorted(block.reshape(YEARS, -1).T.tolist())
    )
    box = world.info(array.sampleRectangle(here))["properties"]["array"]
    np.testing.assert_allclose(box, np.moveaxis(block, 0, -1))


def test_constant_arrays(world: Earth) -> None:
    "ee.Image(ee.Array(...)) holds the array everywhere."
    image = ee.Image(ee.Array([[1, 2], [3, 4]]))
    kind = world.info(image)["bands"][0]
    assert kind["id"] == "constant"
    assert kind["data_type"]["dimensions"] == 2
    same(only(world, image), lambda r, c: [[1, 2], [3, 4]])
    same(only(world, image.arrayGet([1, 0])), lambda r, c: 3)
    with pytest.raises(EngineError, match=r"out of range for an array of lengths \[2, 2\]"):
        world.pixels(image.arrayGet([2, 0]), native(1, 1))


# ------------------------------------------------------------------ tiles


def test_results_do_not_depend_on_tiles(world: Earth) -> None:
    "Whole, in tiles of 5 and in strips: the same arrays."
    array = holes().toArray()
    image = (
        array.arraySort(array.arraySlice(1, 1, 2))
        .arraySlice(0, 0, 3)
        .addBands(ee.Image("T/holes/3").select("a").neighborhoodToArray(ee.Kernel.square(2)))
        .addBands(holes().reduce(ee.Reducer.toList()).select("a_list"))
    )
    made = world.value(image)
    whole = render(made, native(SIZE, SIZE))
    for limits in (Limits(tile=5), Limits(tile=5, threads=1), Limits(stack_bytes=4000)):
        parts = render(made, native(SIZE, SIZE), None, limits)
        for name, (data, mask) in whole.items():
            other, on = parts[name]
            np.testing.assert_array_equal(mask, on)
            for place in zip(*np.nonzero(mask), strict=True):
                np.testing.assert_array_equal(cell(data[place]), cell(other[place]))


def test_arrays_are_refused_where_numbers_are_written(world: Earth, tmp_path: Path) -> None:
    "An answer of pixels is made of numbers; the words say how to get them."
    endpoint = Endpoint(world.root, tmp_path / "state")
    grid = {
        "dimensions": {"width": 2, "height": 2},
        "crsCode": "EPSG:32633",
        "affineTransform": {
            "scaleX": 10, "translateX": 500000, "scaleY": -10, "translateY": 6700000
        },
    }  # fmt: skip
    for kind in ("NPY", "GEO_TIFF", "PNG"):
        body = {"expression": world.graph(full().toArray()), "fileFormat": kind, "grid": grid}
        response, content = Transport(endpoint).request(
            "http://localhost/v1/projects/p/image:computePixels", "POST", json.dumps(body)
        )
        assert response.status == 400
        assert "holds arrays of 2 dimension(s)" in json.loads(content)["error"]["message"]


def test_no_function_of_images_breaks_on_arrays(world: Earth) -> None:
    "Every function that takes an image works with arrays or refuses them in words."
    array = ee.Image("T/full/1").select(["a", "b"]).toArray()
    given: dict[str, Any] = {
        "Image": array,
        "Geometry": ee.Geometry.Rectangle([500000, 6699950, 500050, 6700000], "EPSG:32633", False),
        "Reducer": ee.Reducer.mean(),
        "Kernel": ee.Kernel.square(1),
        "Projection": ee.Projection("EPSG:32633").atScale(10),
        "ImageCollection": ee.ImageCollection([array, array]),
        "String": "a",
        "List": [0],
        "Dictionary": {},
        "Boolean": True,
    }
    calls = 0
    for name, signature in signatures().items():
        kinds = {a.type for a in signature.arguments}
        if "Image" not in kinds:
            continue
        arguments = {a.name: given.get(a.type, 1) for a in signature.arguments if not a.optional}
        try:
            graph = world.graph(ee.ApiFunction(name).apply(arguments))
        except (ee.EEException, TypeError):
            continue  # the client itself refuses
        try:
            found = world.engine.evaluate(graph)
            if isinstance(found, Image):
                render(found, native(3, 3), None, Limits(threads=1))
            else:
                world.engine.to_json(found)
        except EngineError as problem:
            assert "nternal error" not in str(problem), name
        calls += 1
    assert calls > 200
