"""Linear algebra on stacks of matrices, shape (n, rows, columns).

Where several answers are right the convention is that of Java's libraries (Earth Engine names
https://ejml.org for eigenvectors): a Householder step always reflects, so the diagonal of R is
negative where the pivot was not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .budget import work
from .errors import EngineError

__all__ = [
    "cholesky",
    "diagonal",
    "eigen",
    "inverse",
    "least_squares",
    "lu",
    "multiply",
    "norm",
    "pseudo_inverse",
    "qr",
    "singular_values",
    "solve",
    "to_diagonal",
    "trace",
]

Stack = NDArray[Any]
Good = NDArray[np.bool_] | None


def check(stack: Stack, square: bool = False) -> Stack:
    """Return a stack whose arrays are matrices.

    Raises
    ------
    EngineError
        They are not 2-D, or not square where they must be.
    """
    if stack.ndim != 3:
        raise EngineError(f"Expected a matrix (2-D array), found {stack.ndim - 1} dimension(s).")
    if square and stack.shape[1] != stack.shape[2]:
        raise EngineError(
            f"Expected a square matrix, found {stack.shape[1]} rows and {stack.shape[2]} columns."
        )
    return stack


def _real(stack: Stack, square: bool = False) -> Stack:
    found = check(stack, square).astype(np.float64, copy=False)
    if found.size == 0:
        raise EngineError("The matrix has no elements.")
    # Decompositions take about ten times the third power of the size; stacks come in parts.
    work(10.0 * max(found.shape[1:]) ** 2 * min(found.shape[1:]))
    return found


def _each(function: Any, *stacks: Stack) -> tuple[list[Stack], Good]:
    """Apply a function of numpy.linalg; one by one where a matrix of the stack fails.

    Returns
    -------
    results : list of stacks
    ok : (n,) bool or None
        Matrices that did not fail.
    """
    try:
        found = function(*stacks)
        return list(found) if isinstance(found, tuple) else [found], None
    except np.linalg.LinAlgError:
        pass
    n = max(len(s) for s in stacks)
    full = [np.broadcast_to(s, (n, *s.shape[1:])) for s in stacks]
    ok = np.zeros(n, bool)
    out: list[Stack] = []
    for k in range(n):
        try:
            made = function(*(s[k : k + 1] for s in full))
        except np.linalg.LinAlgError:
            continue
        parts = list(made) if isinstance(made, tuple) else [made]
        if not out:
            out = [np.zeros((n, *p.shape[1:])) for p in parts]
        for whole, part in zip(out, parts, strict=True):
            whole[k] = part[0]
        ok[k] = True
    return out, ok


def multiply(a: Stack, b: Stack) -> Stack:
    """Return the matrix products."""
    check(a)
    check(b)
    if a.shape[2] != b.shape[1]:
        raise EngineError(
            f"Cannot multiply matrices of {a.shape[1]} x {a.shape[2]} and {b.shape[1]} x "
            f"{b.shape[2]}: the columns of the first must be as many as the rows of the second."
        )
    return np.matmul(a, b)


def inverse(stack: Stack) -> tuple[list[Stack], Good]:
    """Return the inverses; singular matrices have none."""
    return _each(np.linalg.inv, _real(stack, square=True))


def pseudo_inverse(stack: Stack) -> Stack:
    """Return the Moore-Penrose inverses."""
    table = _real(stack)
    found: Stack = np.linalg.pinv(table, rcond=max(table.shape[1:]) * np.finfo(float).eps)
    return found


def least_squares(a: Stack, b: Stack) -> Stack:
    """Return x with the least residual of A x = B; the shortest where several have it.

    Parameters
    ----------
    a : (n, rows, unknowns)
    b : (n, rows, k)

    Returns
    -------
    (n, unknowns, k)
    """
    # Columns of one size: a time in milliseconds beside a constant is not a poor column.
    size = np.sqrt((a**2).sum(axis=1, keepdims=True))
    size = np.where(size > 0, size, 1)
    scaled = a / size
    if a.shape[1] >= a.shape[2]:
        q, r = np.linalg.qr(scaled)
        pivots = np.abs(np.diagonal(r, axis1=1, axis2=2))
        fine = pivots.min(axis=1) > max(a.shape[1:]) * np.finfo(float).eps
        turned = np.swapaxes(q, 1, 2) @ b
        if fine.all():
            return np.linalg.solve(r, turned) / np.swapaxes(size, 1, 2)
        out = np.zeros((len(a), a.shape[2], b.shape[2]))
        out[fine] = np.linalg.solve(r[fine], turned[fine]) / np.swapaxes(size, 1, 2)[fine]
        out[~fine] = pseudo_inverse(a[~fine]) @ b[~fine]
        return out
    return pseudo_inverse(a) @ b


def solve(a: Stack, b: Stack) -> tuple[list[Stack], Good]:
    """Solve A x = B: exactly, or by least squares where the rows are not as many as unknowns."""
    left, right = _real(a), _real(b)
    if left.shape[1] != right.shape[1]:
        raise EngineError(
            f"A and B must have the same number of rows; they have {left.shape[1]} and "
            f"{right.shape[1]}."
        )
    if left.shape[1] == left.shape[2]:
        return _each(np.linalg.solve, left, right)
    n = max(len(left), len(right))
    left = np.broadcast_to(left, (n, *left.shape[1:]))
    right = np.broadcast_to(right, (n, *right.shape[1:]))
    return [least_squares(left, right)], None


def determinant(stack: Stack) -> Stack:
    """Return the determinants."""
    found: Stack = np.linalg.det(_real(stack, square=True))
    return found


def trace(stack: Stack) -> Stack:
    """Return the sums of the diagonals."""
    found: Stack = np.trace(check(stack), axis1=1, axis2=2)
    return found


def norm(stack: Stack) -> Stack:
    """Return the Frobenius norms."""
    found: Stack = np.sqrt((check(stack).astype(np.float64) ** 2).sum(axis=(1, 2)))
    return found


def diagonal(stack: Stack) -> Stack:
    """Return the diagonals as single columns."""
    return np.diagonal(check(stack), axis1=1, axis2=2)[:, :, None]


def to_diagonal(stack: Stack) -> Stack:
    """Return square matrices with a column on their diagonal."""
    if stack.ndim != 3 or stack.shape[2] != 1:
        raise EngineError(
            f"Expected a matrix of a single column, found lengths {list(stack.shape[1:])}."
        )
    n, size = stack.shape[:2]
    if size > 4096:
        raise EngineError(f"A diagonal matrix of {size} rows is too large.")
    out = np.zeros((n, size, size), stack.dtype)
    index = np.arange(size)
    out[:, index, index] = stack[:, :, 0]
    return out


def cholesky(stack: Stack) -> tuple[list[Stack], Good]:
    """Return L with L L' = the matrix; only positive-definite ones have it."""
    table = _real(stack, square=True)
    if not np.allclose(table, table.transpose(0, 2, 1), rtol=1e-8, atol=1e-12):
        raise EngineError("The matrix is not symmetric.")
    return _each(np.linalg.cholesky, table)


def singular_values(stack: Stack) -> list[Stack]:
    """Return U, S and V with U S V' = the matrix, the greatest singular value first."""
    table = _real(stack)
    u, s, vt = np.linalg.svd(table)
    middle = np.zeros(table.shape)
    index = np.arange(s.shape[1])
    middle[:, index, index] = s
    return [u, middle, vt.transpose(0, 2, 1)]


def lu(stack: Stack) -> list[Stack]:
    """Return L, U and P with P times the matrix = L U, by partial pivoting."""
    from scipy import linalg

    table = _real(stack, square=True)
    found = [linalg.lu(matrix) for matrix in table]
    return [
        np.stack([lower for _, lower, _ in found]),
        np.stack([upper for _, _, upper in found]),
        np.stack([p.T for p, _, _ in found]),
    ]


def qr(stack: Stack) -> list[Stack]:
    """Return Q and R with Q R = the matrix, by Householder reflections."""
    table = _real(stack)
    q, r = np.linalg.qr(table, mode="complete")
    _, steps = np.linalg.qr(table, mode="raw")
    # LAPACK leaves a column alone that has nothing to eliminate; Java's libraries reflect it.
    count = steps.shape[1]
    pivots = np.diagonal(r, axis1=1, axis2=2)[:, :count]
    flip = np.where((steps == 0) & (pivots != 0), -1.0, 1.0)
    q[:, :, :count] *= flip[:, None, :]
    r[:, :count, :] *= flip[:, :, None]
    return [q, r]


def eigen(stack: Stack) -> tuple[list[Stack], Good]:
    """Return rows of an eigenvalue and its unit vector, the greatest first.

    The sign of a vector is free: here its greatest element is positive. Matrices with complex
    eigenvalues have no result.
    """
    table = _real(stack, square=True)
    n, size = table.shape[:2]
    out = np.zeros((n, size, size + 1))
    ok = np.ones(n, bool)
    symmetric = np.isclose(table, table.transpose(0, 2, 1), rtol=1e-10, atol=0).all(axis=(1, 2))
    if symmetric.any():
        values, vectors = np.linalg.eigh(table[symmetric])
        out[symmetric] = _ordered(values, vectors)
    for k in np.nonzero(~symmetric)[0]:
        values, vectors = np.linalg.eig(table[k])
        if np.iscomplexobj(values) and np.abs(values.imag).max() > 1e-10 * np.abs(values).max():
            ok[k] = False
            continue
        out[k] = _ordered(values.real[None], vectors.real[None])[0]
    return [out], None if ok.all() else ok


def _ordered(values: Stack, vectors: Stack) -> Stack:
    order = np.argsort(-values, axis=1, kind="stable")
    rows = np.take_along_axis(vectors.transpose(0, 2, 1), order[:, :, None], axis=1)
    most = np.take_along_axis(rows, np.abs(rows).argmax(axis=2)[:, :, None], axis=2)
    rows = rows * np.where(most < 0, -1.0, 1.0)
    found = np.take_along_axis(values, order, axis=1)
    return np.concatenate([found[:, :, None], rows], axis=2) + 0.0


def unmixed(
    pixels: Stack, endmembers: Stack, sum_to_one: bool, non_negative: bool, most_subsets: int = 8
) -> Stack:
    """Return the shares of endmembers that best make up each pixel.

    Parameters
    ----------
    pixels : (n, bands)
    endmembers : (k, bands)
    sum_to_one, non_negative : bool
        Constraints on the shares.
    most_subsets : int
        Non-negative shares of up to so many endmembers are found by solving for every
        subset, which is exact; of more, by Lawson and Hanson's method pixel by pixel.

    Returns
    -------
    (n, k) float64

    Examples
    --------
    >>> unmixed(np.array([[0.25, 0.75]]), np.eye(2), True, False)
    array([[0.25, 0.75]])
    """
    if not non_negative:
        return _shares(pixels, endmembers, sum_to_one)
    k = len(endmembers)
    if k > most_subsets:
        return _non_negative(pixels, endmembers, sum_to_one)
    best = np.zeros((len(pixels), k))
    error = np.full(len(pixels), np.inf) if sum_to_one else (pixels**2).sum(axis=1)
    for code in range(1, 2**k):
        some = [j for j in range(k) if code >> j & 1]
        found = _shares(pixels, endmembers[some], sum_to_one)
        off = ((pixels - found @ endmembers[some]) ** 2).sum(axis=1)
        better = (found >= 0).all(axis=1) & (off < error)
        best[better] = 0
        best[np.ix_(better, some)] = found[better]
        error = np.where(better, off, error)
    return best


def _shares(pixels: Stack, endmembers: Stack, sum_to_one: bool) -> Stack:
    if not sum_to_one:
        return pixels @ np.linalg.pinv(endmembers)
    # Differences from the last endmember, whose share is what the others leave.
    last = endmembers[-1]
    rest = (pixels - last) @ np.linalg.pinv(endmembers[:-1] - last) if len(endmembers) > 1 else None
    if rest is None:
        return np.ones((len(pixels), 1))
    return np.concatenate([rest, 1 - rest.sum(axis=1, keepdims=True)], axis=1)


def _non_negative(pixels: Stack, endmembers: Stack, sum_to_one: bool) -> Stack:
    from scipy.optimize import nnls

    work(200.0 * len(pixels) * endmembers.size)
    table = endmembers.T
    # A heavy row of ones holds the sum.
    weight = 1e5 * max(float(np.abs(endmembers).max()), 1e-300)
    if sum_to_one:
        table = np.vstack([table, np.full((1, len(endmembers)), weight)])
    out = np.zeros((len(pixels), len(endmembers)))
    for row, pixel in enumerate(pixels):
        out[row] = nnls(table, np.append(pixel, weight) if sum_to_one else pixel)[0]
    return out
