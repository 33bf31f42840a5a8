"""Arrays as values: every function of the list's Array family, against numpy and scipy.

[A]: the description of the function in the installed client's list, ee/tests/algorithms.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import linalg, special

from gee.emulator.errors import EngineError
from gee.emulator.evaluate import Evaluator
from gee.emulator.signatures import signatures

ENGINE = Evaluator(None)
Array = NDArray[Any]


def graph(name: str, **arguments: Any) -> dict[str, Any]:
    """Return an expression that calls one function with plain JSON or with other calls."""
    values: dict[str, Any] = {}

    def node(value: Any) -> dict[str, Any]:
        if isinstance(value, Call):
            made = {k: node(v) for k, v in value.arguments.items() if v is not None}
            return {"functionInvocationValue": {"functionName": value.name, "arguments": made}}
        return {"constantValue": value}

    values["0"] = node(Call(name, **arguments))
    return {"result": "0", "values": values}


class Call:
    """A call of a function inside another."""

    def __init__(self, name: str, **arguments: Any) -> None:
        self.name, self.arguments = name, arguments


def run(name: str, **arguments: Any) -> Any:
    """Return what getInfo of a call would."""
    return ENGINE.to_json(ENGINE.evaluate(graph(name, **arguments)))


def array(values: Any, kind: str | None = None) -> Call:
    """Return an Array of nested lists."""
    return Call(
        "Array",
        values=np.asarray(values).tolist(),
        pixelType=None if kind is None else Call(f"PixelType.{kind}"),
    )


def numbers(value: Any) -> Array:
    """Read JSON numbers, with the words that stand for what JSON has no number for."""
    if isinstance(value, list):
        return np.array([numbers(v) for v in value], float)
    return np.array(float(value))


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)
# JSON has one zero: whole numbers arrive as integers.
REALS = SHAPES.flatmap(
    lambda s: hnp.arrays(float, s, elements=st.floats(-20, 20, width=32)).map(lambda a: a + 0.0)
)
WHOLES = SHAPES.flatmap(lambda s: hnp.arrays(np.int64, s, elements=st.integers(-(2**40), 2**40)))

UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "cbrt": np.cbrt,
    "exp": np.exp,
    "log": np.log,
    "log10": np.log10,
    "signum": np.sign,
    "erf": special.erf,
    "erfc": special.erfc,
    "erfInv": special.erfinv,
    "erfcInv": special.erfcinv,
    "not": lambda a: a == 0,
}


@pytest.mark.parametrize("name", UNARY)
@given(REALS)
@settings(max_examples=15, deadline=None)
def test_functions_of_one_array(name: str, values: Array) -> None:
    "Element by element, the shape kept."
    with np.errstate(all="ignore"):
        expected = np.asarray(UNARY[name](values), float)
    found = numbers(run(f"Array.{name}", input=array(values)))
    assert found.shape == values.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": lambda a, b: np.where(b == 0, 0, a / np.where(b == 0, 1, b)),
    "max": np.maximum,
    "min": np.minimum,
    "first": lambda a, b: a + 0 * b,
    "firstNonZero": lambda a, b: np.where(a != 0, a, b),
    "and": lambda a, b: (a != 0) & (b != 0),
    "or": lambda a, b: (a != 0) | (b != 0),
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "eq": np.equal,
    "neq": np.not_equal,
    "hypot": np.hypot,
    # [G] ee_number_atan2: the angle of the vector [x, y].
    "atan2": lambda x, y: np.arctan2(y, x),
}


@pytest.mark.parametrize("name", BINARY)
@given(REALS, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=15, deadline=None)
def test_functions_of_two_arrays(name: str, left: Array, seed: int, turn: bool) -> None:
    "Arrays of one shape go together, and an array with a single number."
    random = np.random.default_rng(seed)
    right = np.round(random.uniform(-4, 4, left.shape)) + 0.0
    one = np.round(random.uniform(-4, 4, ())) + 0.0
    pairs = [(left, right), (one, left) if turn else (left, one)]
    for a, b in pairs:
        expected = np.asarray(BINARY[name](a, b), float)
        found = numbers(run(f"Array.{name}", left=array(a), right=array(b)))
        assert found.shape == left.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12)


INTEGERS: dict[str, Callable[[int, int], int]] = {
    "bitwiseAnd": lambda a, b: a & b,
    "bitwiseOr": lambda a, b: a | b,
    "bitwiseXor": lambda a, b: a ^ b,
    "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
    "add": lambda a, b: a + b,
    "mod": lambda a, b: int(math.fmod(a, b)) if b else 0,
    "max": max,
    "subtract": lambda a, b: a - b,
}


@pytest.mark.parametrize("name", INTEGERS)
@given(WHOLES, st.integers(-(2**40), 2**40))
@settings(max_examples=15, deadline=None)
def test_integers_stay_exact(name: str, values: Array, other: int) -> None:
    "64 bits, two's complement, as Java's longs; Python's integers are the reference."
    call = INTEGERS[name]
    expected = [call(int(v), other) for v in values.ravel()]
    assert np.ravel(run(f"Array.{name}", left=array(values), right=array(other))).tolist() == (
        expected
    )


@given(WHOLES)
@settings(max_examples=25, deadline=None)
def test_bits(values: Array) -> None:
    "bitwiseNot is -x - 1; bitCount counts 64 bits; shifts multiply and divide by powers of 2."
    flat = [int(v) for v in values.ravel()]
    assert np.ravel(run("Array.bitwiseNot", input=array(values))).tolist() == [~v for v in flat]
    assert np.ravel(run("Array.bitCount", input=array(values))).tolist() == [
        (v % 2**64).bit_count() for v in flat
    ]
    left = run("Array.leftShift", left=array(values), right=array(5))
    assert np.ravel(left).tolist() == [v << 5 for v in flat]
    right = run("Array.rightShift", left=array(values), right=array(7))
    assert np.ravel(right).tolist() == [v >> 7 for v in flat]


def test_powers_and_special_functions() -> None:
    "Whole powers of negative numbers, powers of 0, and the gamma family."
    base = np.array([-2.0, -1, 0, 1, 2, 0.5])
    for power in (-2, -1, 0, 1, 2, 3, 0.5):
        with np.errstate(all="ignore"):
            expected = base**power
        found = numbers(run("Array.pow", left=array(base), right=array(power)))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    x = np.array([0.3, 1.0, 4.5, 20.0])
    for name, oracle in (
        ("gamma", special.gamma),
        ("digamma", special.psi),
        ("trigamma", lambda v: special.polygamma(1, v)),
    ):
        np.testing.assert_allclose(numbers(run(f"Array.{name}", input=array(x))), oracle(x))
    shape = np.array([1.0, 2, 3, 0.5])
    found = numbers(run("Array.gammainc", left=array(x), right=array(shape)))
    np.testing.assert_allclose(found, special.gammainc(shape, x))
    halves = [-2.5, -0.4, 0.5, 1.5, 3]
    assert run("Array.round", input=array(halves)) == [math.floor(v + 0.5) for v in halves]
    # Reflection: trigamma(1 - x) + trigamma(x) = (pi / sin(pi x))^2.
    negative = np.array([-0.5, -1.25, -3.7])
    found = numbers(run("Array.trigamma", input=array(negative)))
    expected = (np.pi / np.sin(np.pi * negative)) ** 2 - special.polygamma(1, 1 - negative)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


RANGES = {
    "Uint8": (0, 255), "Byte": (0, 255), "Int8": (-128, 127), "Uint16": (0, 65535),
    "Int16": (-32768, 32767), "Short": (-32768, 32767), "Uint32": (0, 2**32 - 1),
    "Int32": (-(2**31), 2**31 - 1), "Int": (-(2**31), 2**31 - 1),
    "Int64": (-(2**63), 2**63 - 1), "Long": (-(2**63), 2**63 - 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
@given(st.lists(st.floats(-1e10, 1e10) | st.integers(-300, 70_000), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_casts_to_integers(name: str, values: list[float]) -> None:
    "Towards zero, and to the nearest end of the range; both spellings are one function."
    low, high = RANGES[name]
    expected = [min(max(math.trunc(v), low), high) for v in values]
    assert run(f"Array.to{name}", input=array(values)) == expected
    assert run(f"Array.{name.lower()}", input=array(values)) == expected


def test_casts_to_floats() -> None:
    "float has 24 bits of precision, double 53."
    assert run("Array.toFloat", input=array([0.1])) == [float(np.float32(0.1))]
    assert run("Array.double", input=Call("Array.float", input=array([0.1]))) == [
        float(np.float32(0.1))
    ]
    assert run("Array.toDouble", input=array([0.1])) == [0.1]
    pair = {"left": Call("Array.float", input=array([1.1])), "right": array([1.1])}
    assert run("Array.eq", **pair) == [0]


# ------------------------------------------------------------------ making and shapes


def test_making() -> None:
    "[A] Array: lists of any depth, another array to cast, a type for no numbers."
    assert run("Array", values=7) == 7
    assert run("Array", values=[[[1], [2]]]) == [[[1], [2]]]
    assert run("Array", values=[1.5, 300], pixelType=Call("PixelType.uint8")) == [1, 255]
    assert run("Array", values=array([1.7, -2.2]), pixelType=Call("PixelType.int8")) == [1, -2]
    assert run("Array", values=[], pixelType=Call("PixelType.int8")) == []
    assert run("Array", values=[[], []], pixelType=Call("PixelType.float")) == [[], []]
    for values, words in (
        ([[1, 2], [3]], "must have the same length"),
        ([[1], 2], "must have the same length"),
        ([1, "a"], "made of numbers"),
        ([], "type of an array without numbers"),
    ):
        with pytest.raises(EngineError, match=words):
            run("Array", values=values)


@given(REALS.filter(lambda a: a.ndim > 0), st.data())
@settings(max_examples=60, deadline=None)
def test_shapes(values: Array, data: st.DataObject) -> None:
    "Slices, cuts, repeats, reshapes and transposes are numpy's."
    axis = data.draw(st.integers(0, values.ndim - 1))
    start, end = data.draw(st.integers(-5, 5)), data.draw(st.none() | st.integers(-5, 5))
    step = data.draw(st.integers(1, 3))
    index = (slice(None),) * axis + (slice(start, end, step),)
    found = run("Array.slice", array=array(values), axis=axis, start=start, end=end, step=step)
    assert found == ENGINE.to_json(values[index].tolist())
    copies = data.draw(st.integers(1, 3))
    found = run("Array.repeat", array=array(values), axis=axis, copies=copies)
    np.testing.assert_array_equal(numbers(found), np.concatenate([values] * copies, axis))
    found = cat([values, -values], axis)
    np.testing.assert_array_equal(numbers(found), np.concatenate([values, -values], axis))
    assert run("Array.length", array=array(values)) == list(values.shape)
    flat = run("Array.reshape", array=array(values), shape=[-1])
    np.testing.assert_array_equal(numbers(flat), values.ravel())
    place = [data.draw(st.integers(0, n - 1)) for n in values.shape]
    assert run("Array.get", array=array(values), position=place) == pytest.approx(
        values[tuple(place)], abs=0
    )
    kept = [data.draw(st.booleans()) for _ in place]
    position = [p if k else -1 for p, k in zip(place, kept, strict=True)]
    index = tuple(slice(p, p + 1) if k else slice(None) for p, k in zip(place, kept, strict=True))
    found = run("Array.cut", array=array(values), position=position)
    np.testing.assert_array_equal(numbers(found), values[index])
    most = np.unravel_index(np.argmax(values), values.shape)
    assert run("Array.argmax", array=array(values)) == [int(v) for v in most]
    if values.ndim > 1:
        other = data.draw(st.integers(0, values.ndim - 1))
        found = run("Array.transpose", array=array(values), axis1=axis, axis2=other)
        np.testing.assert_array_equal(numbers(found), np.swapaxes(values, axis, other))


def cat(parts: list[Array], axis: int) -> Any:
    """Return the concatenation of arrays."""
    items = {"arrayValue": {"values": [graph_node(array(p)) for p in parts]}}
    arguments = {"arrays": items, "axis": {"constantValue": axis}}
    call = {"functionName": "Array.cat", "arguments": arguments}
    made = {"result": "0", "values": {"0": {"functionInvocationValue": call}}}
    return ENGINE.to_json(ENGINE.evaluate(made))


def graph_node(call: Call) -> dict[str, Any]:
    """Return the node of a call."""
    return graph(call.name, **call.arguments)["values"]["0"]


def test_new_axes() -> None:
    "A vector repeated or joined along the axis after its last becomes a matrix."
    assert run("Array.repeat", array=array([1, 2]), axis=1, copies=3) == [[1, 1, 1], [2, 2, 2]]
    assert cat([np.array([1, 2]), np.array([3, 4])], 1) == [[1, 3], [2, 4]]
    assert cat([np.array(1), np.array(2)], 0) == [1, 2]
    assert run("Array.repeat", array=array([1, 2]), axis=0, copies=0) == []
    assert run("Array.transpose", array=array([1, 2])) == [[1, 2]]


def test_project_and_pad() -> None:
    "[A] Array.project: dropped axes have length 1; Array.pad: appended up to the lengths."
    values = np.arange(6).reshape(1, 2, 3)
    assert run("Array.project", array=array(values), axes=[1, 2]) == values[0].tolist()
    assert run("Array.project", array=array(values), axes=[2, 1]) == values[0].T.tolist()
    assert run("Array.project", array=array([[5]]), axes=[]) == 5
    assert run("Array.pad", array=array([[1, 2]]), lengths=[2, 3]) == [[1, 2, 0], [0, 0, 0]]
    assert run("Array.pad", array=array([1, 2]), lengths=[1], pad=9) == [1, 2]
    assert run("Array.pad", array=array([1, 2]), lengths=[3], pad=0.5) == [1, 2, 0.5]
    assert run("Array.pad", array=array([1, 2]), lengths=[3, 2], pad=7) == [[1, 7], [2, 7], [7, 7]]


def test_masks_and_sorts() -> None:
    "[A] Array.mask, Array.sort: along the one axis on which the mask or keys extend."
    table = [[3, 1, 2], [30, 10, 20]]
    assert run("Array.mask", input=array(table), mask=array([[1, 0, 2]])) == [[3, 2], [30, 20]]
    assert run("Array.mask", input=array(table), mask=array([[0], [1]])) == [[30, 10, 20]]
    assert run("Array.mask", input=array(table), mask=array([0, 1])) == [[30, 10, 20]]
    assert run("Array.sort", array=array([3, 1, 2])) == [1, 2, 3]
    assert run("Array.sort", array=array(table), keys=array([[3, 1, 2]])) == [
        [1, 2, 3], [10, 20, 30]
    ]  # fmt: skip
    assert run("Array.sort", array=array(table), keys=array([[2], [1]])) == table[::-1]
    # Equal keys keep their order.
    assert run("Array.sort", array=array([5, 4, 3]), keys=array([1, 0, 1])) == [4, 5, 3]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("Array.get", {"array": array([1]), "position": [1]}), "out of bounds"),
        (("Array.get", {"array": array([[1]]), "position": [0]}), "must have 2 coordinates"),
        (("Array.slice", {"array": array([1]), "axis": 1}), "Axis 1 is out of range"),
        (("Array.slice", {"array": array(1)}), "Axis 0 is out of range"),
        (("Array.slice", {"array": array([1]), "step": 0}), "Step must be positive"),
        (("Array.cut", {"array": array([1]), "position": [3]}), "out of bounds"),
        (("Array.reshape", {"array": array([1, 2, 3]), "shape": [2, -1]}), "Cannot reshape"),
        (("Array.reshape", {"array": array([1]), "shape": [-1, -1]}), "at most one"),
        (("Array.project", {"array": array([[1, 2]]), "axes": [0]}), "at most 1"),
        (("Array.project", {"array": array([[1]]), "axes": [0, 0]}), "twice"),
        (("Array.repeat", {"array": array([1]), "copies": -1}), "must not be negative"),
        (("Array.pad", {"array": array([[1]]), "lengths": [2]}), "for each of the 2 axes"),
        (("Array.mask", {"input": array([1, 2]), "mask": array([1, 1, 1])}), "length 3"),
        (("Array.mask", {"input": array([[1]]), "mask": array([[1, 1], [1, 1]])}), "one axis only"),
        (("Array.sort", {"array": array([[1, 2], [3, 4]])}), "one axis only"),
        (("Array.add", {"left": array([1, 2]), "right": array([1, 2, 3])}), "must match"),
        (("Array.dotProduct", {"array1": array([1]), "array2": array([1, 2])}), "1-D"),
        (("Array.accum", {"array": array([1]), "axis": 1}), "Axis 1"),
        (("Array.identity", {"size": 0}), "must be positive"),
        (("Array.identity", {"size": 10**7}), "memory limit"),
        (("Array.pad", {"array": array([1]), "lengths": [10**9]}), "memory limit"),
        (("Array.repeat", {"array": array([1, 2]), "copies": 10**9}), "memory limit"),
        (("Array.matrixInverse", {"input": array([[1, 2], [2, 4]])}), "singular"),
        (("Array.matrixInverse", {"input": array([[1, 2]])}), "square"),
        (("Array.matrixDeterminant", {"input": array([1, 2])}), "2-D"),
        (("Array.matrixMultiply", {"left": array([[1, 2]]), "right": array([[1, 2]])}), "multiply"),
        (("Array.matrixToDiag", {"input": array([[1, 2]])}), "single column"),
        (("Array.matrixCholeskyDecomposition", {"array": array([[1, 2], [2, 1]])}), "definite"),
        (("Array.matrixCholeskyDecomposition", {"array": array([[1, 2], [0, 1]])}), "symmetric"),
        (("Array.eigen", {"input": array([[0, -1], [1, 0]])}), "complex"),
    ],
)  # fmt: skip
def test_mistakes_have_words(call: tuple[str, dict[str, Any]], words: str) -> None:
    "Never an internal error; the function is named."
    with pytest.raises(EngineError, match=words) as caught:
        run(call[0], **call[1])
    assert "nternal" not in str(caught.value)
    assert str(caught.value).startswith(call[0]) or "memory limit" in str(caught.value)


# ------------------------------------------------------------------ reducing


REDUCERS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "median": np.median,
    "min": np.min,
    "max": np.max,
    "product": np.prod,
    "stdDev": np.std,
    "variance": np.var,
    "count": lambda a, axis, keepdims: np.sum(np.ones_like(a), axis=axis, keepdims=keepdims),
    "allNonZero": lambda a, axis, keepdims: np.all(a != 0, axis=axis, keepdims=keepdims),
    "anyNonZero": lambda a, axis, keepdims: np.any(a != 0, axis=axis, keepdims=keepdims),
}


@pytest.mark.parametrize("name", REDUCERS)
def test_reduce(name: str) -> None:
    "[A] Array.reduce: reduced axes have length 1, the others stay."
    values = np.random.default_rng(1).integers(-3, 4, (2, 3, 4)).astype(float)
    for axes in ([0], [1], [2], [0, 2], [2, 1], [0, 1, 2]):
        found = run("Array.reduce", array=array(values), reducer=Call(f"Reducer.{name}"), axes=axes)
        expected = REDUCERS[name](values, axis=tuple(axes), keepdims=True)
        assert numbers(found).shape == expected.shape
        np.testing.assert_allclose(numbers(found), expected, atol=1e-12)


def test_reduce_with_fields() -> None:
    "[A] Array.reduce: the field axis has the inputs, and then the outputs."
    table = np.array([[0.0, 1], [1, 3], [2, 5.5], [3, 7]])
    slope, offset = np.polyfit(table[:, 0], table[:, 1], 1)
    fit = Call("Reducer.linearFit")
    found = run("Array.reduce", array=array(table), reducer=fit, axes=[0], fieldAxis=1)
    np.testing.assert_allclose(numbers(found), [[slope, offset]])
    turned = run("Array.reduce", array=array(table.T), reducer=fit, axes=[1], fieldAxis=0)
    np.testing.assert_allclose(numbers(turned), [[slope], [offset]])
    ends = Call("Reducer.minMax")
    found = run("Array.reduce", array=array(table[:, :1]), reducer=ends, axes=[0], fieldAxis=1)
    assert found == [[0, 3]]
    assert run("Array.reduce", array=array([4, 2]), reducer=ends, axes=[0], fieldAxis=1) == [[2, 4]]
    for arguments, words in (
        ({"reducer": fit, "axes": [0]}, "fieldAxis is required"),
        ({"reducer": fit, "axes": [1], "fieldAxis": 0}, "length 4"),
        ({"reducer": fit, "axes": [0], "fieldAxis": 5}, "Field axis 5"),
        ({"reducer": Call("Reducer.toList"), "axes": [0]}, "must be a number"),
        ({"reducer": Call("Reducer.frequencyHistogram"), "axes": [0]}, "must be a number"),
    ):
        with pytest.raises(EngineError, match=words):
            run("Array.reduce", array=array(table), **arguments)


def test_accumulate() -> None:
    "[A] Array.accum: each element the reduction up to and with its position."
    values = np.array([[3.0, 1, 2], [1, 5, 4]])
    for axis in (0, 1):
        np.testing.assert_allclose(
            numbers(run("Array.accum", array=array(values), axis=axis)), np.cumsum(values, axis)
        )
        for name, oracle in (("max", np.maximum), ("min", np.minimum)):
            found = run(
                "Array.accum", array=array(values), axis=axis, reducer=Call(f"Reducer.{name}")
            )
            np.testing.assert_allclose(numbers(found), oracle.accumulate(values, axis))
    found = run("Array.accum", array=array(values), axis=1, reducer=Call("Reducer.median"))
    expected = [[np.median(row[: k + 1]) for k in range(3)] for row in values]
    np.testing.assert_allclose(numbers(found), expected)


# ------------------------------------------------------------------ linear algebra

MATRICES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=4).flatmap(
    lambda s: hnp.arrays(float, s, elements=st.integers(-9, 9))
)


@given(MATRICES)
@settings(max_examples=60, deadline=None)
def test_decompositions_multiply_back(table: Array) -> None:
    "Orthogonal, triangular and diagonal where they must be, and the product is the matrix."
    rows, columns = table.shape
    found = {
        k: numbers(v)
        for k, v in run("Array.matrixSingularValueDecomposition", array=array(table)).items()
    }
    assert found["U"].shape == (rows, rows)
    assert found["S"].shape == (rows, columns)
    assert found["V"].shape == (columns, columns)
    np.testing.assert_allclose(found["U"] @ found["S"] @ found["V"].T, table, atol=1e-9)
    np.testing.assert_allclose(np.diag(found["S"]), linalg.svdvals(table), atol=1e-9)
    np.testing.assert_allclose(found["U"] @ found["U"].T, np.eye(rows), atol=1e-9)
    found = {
        k: numbers(v) for k, v in run("Array.matrixQRDecomposition", array=array(table)).items()
    }
    np.testing.assert_allclose(found["Q"] @ found["R"], table, atol=1e-9)
    np.testing.assert_allclose(found["Q"].T @ found["Q"], np.eye(rows), atol=1e-9)
    np.testing.assert_allclose(np.tril(found["R"], -1), 0, atol=1e-9)
    found_inverse = numbers(run("Array.matrixPseudoInverse", input=array(table)))
    np.testing.assert_allclose(table @ found_inverse @ table, table, atol=1e-7)
    assert run("Array.matrixFnorm", input=array(table)) == pytest.approx(linalg.norm(table))
    if rows == columns:
        assert run("Array.matrixDeterminant", input=array(table)) == pytest.approx(
            linalg.det(table), abs=1e-8
        )
        found = {
            k: numbers(v) for k, v in run("Array.matrixLUDecomposition", array=array(table)).items()
        }
        np.testing.assert_allclose(found["P"] @ table, found["L"] @ found["U"], atol=1e-9)
        np.testing.assert_allclose(np.diag(found["L"]), 1)
        np.testing.assert_allclose(np.triu(found["L"], 1), 0)
        assert run("Array.matrixTrace", input=array(table)) == pytest.approx(np.trace(table))
        gram = table @ table.T + np.eye(rows)
        lower = numbers(run("Array.matrixCholeskyDecomposition", array=array(gram))["L"])
        np.testing.assert_allclose(lower @ lower.T, gram, atol=1e-9)
        np.testing.assert_allclose(np.triu(lower, 1), 0)
        rows_found = numbers(run("Array.eigen", input=array(gram)))
        np.testing.assert_allclose(rows_found[:, 0], linalg.eigvalsh(gram)[::-1], atol=1e-8)
        for row in rows_found:
            np.testing.assert_allclose(gram @ row[1:], row[0] * row[1:], atol=1e-7)
            assert linalg.norm(row[1:]) == pytest.approx(1)


def test_reflections_are_java_s() -> None:
    "A Householder step reflects also where nothing is to be eliminated (see matrices.py)."
    found = run("Array.matrixQRDecomposition", array=array([[3.0, 1], [0, 2]]))
    assert found == {"Q": [[-1, 0], [0, -1]], "R": [[-3, -1], [0, -2]]}


@given(MATRICES.filter(lambda a: a.shape[0] == a.shape[1]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_eigenvectors(table: Array, symmetric: bool) -> None:
    "[A] Array.eigen: real eigenvalues in descending order, each with its unit vector."
    if symmetric:
        table = table + table.T
    values = linalg.eigvals(table)
    if np.abs(values.imag).max() > 1e-6:
        with pytest.raises(EngineError, match="complex"):
            run("Array.eigen", input=array(table))
        return
    if np.abs(values.imag).max() > 0:
        return  # defective: rounding decides
    if not symmetric and (np.diff(np.sort(values.real)) < 1e-6).any():
        return  # EJML answers a repeated value of a defective matrix with what is no vector of it
    rows = numbers(run("Array.eigen", input=array(table)))
    np.testing.assert_allclose(rows[:, 0], np.sort(values.real)[::-1], atol=1e-6)
    for row in rows:
        np.testing.assert_allclose(table @ row[1:], row[0] * row[1:], atol=1e-6)
        assert linalg.norm(row[1:]) == pytest.approx(1)
    if symmetric:
        np.testing.assert_allclose(rows[:, 1:] @ rows[:, 1:].T, np.eye(len(table)), atol=1e-8)


def test_solving() -> None:
    "[A] Array.matrixSolve: least squares where A is overdetermined."
    a = np.array([[2.0, 1], [1, 3]])
    b = np.array([[1.0], [2]])
    np.testing.assert_allclose(
        numbers(run("Array.matrixSolve", left=array(a), right=array(b))), linalg.solve(a, b)
    )
    tall = np.array([[1.0, 0], [1, 1], [1, 2], [1, 5]])
    right = np.array([[1.0, 0], [2, 1], [2, 3], [7, 3]])
    found = numbers(run("Array.matrixSolve", left=array(tall), right=array(right)))
    np.testing.assert_allclose(found, linalg.lstsq(tall, right)[0])
    # Times in milliseconds beside a constant: columns of very different sizes.
    times = 1.5e12 + np.arange(6) * 3.15e10
    design = np.stack([times, np.ones(6)], axis=1)
    values = 2e-12 * (times - 1.5e12) + 0.25
    found = numbers(run("Array.matrixSolve", left=array(design), right=array(values[:, None])))
    np.testing.assert_allclose(design @ found, values[:, None], atol=1e-6)
    inverse = numbers(run("Array.matrixInverse", input=array(a)))
    np.testing.assert_allclose(inverse, linalg.inv(a))
    assert run("Array.matrixMultiply", left=array([[1, 2]]), right=array([[3], [4]])) == [[11]]
    assert run("Array.matrixDiagonal", input=array([[1, 2], [3, 4]])) == [[1], [4]]
    assert run("Array.matrixToDiag", input=array([[1], [4]])) == [[1, 0], [0, 4]]
    assert run("Array.identity", size=2) == [[1, 0], [0, 1]]
    assert run("Array.dotProduct", array1=array([1, 2]), array2=array([3, 4])) == 11
    assert run("Array.bitsToArray", input=6) == [0, 1, 1]
    assert run("Array.bitsToArray", input=0) == [0]


def test_every_function_is_there() -> None:
    "All ids of the family are registered."
    from gee.emulator.functions import load_all

    names = {n for n in signatures() if n == "Array" or n.startswith("Array.")}
    assert len(names) > 120
    assert not names - load_all().keys()
