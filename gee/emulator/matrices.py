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
    """Return U, S and V with U S V' = the matrix, the greatest singular value first.

    Signs are free. Of matrices with no more columns than rows they are those that
    https://ejml.org mostly arrives at: rotations leave the first row of V positive, and one
    reflection for every column but one makes its determinant.
    """
    table = _real(stack)
    u, s, vt = np.linalg.svd(table)
    rows, columns = table.shape[1:]
    if columns <= rows:
        signs = np.where(vt[:, :, 0] < 0, -1.0, 1.0)
        diagonal_ones = (table * (1 - np.eye(rows, columns)) == 0).all(axis=(1, 2))
        wanted = (-1.0) ** (columns - 1)
        last = np.where(np.linalg.det(vt) * signs[:, :-1].prod(axis=1) * wanted < 0, -1.0, 1.0)
        # Diagonal matrices are left as they are: V exchanges columns, and turns none.
        whole = np.where(vt.sum(axis=2) < 0, -1.0, 1.0)
        signs[:, -1] = last
        signs = np.where(diagonal_ones[:, None], whole, signs)
        vt = vt * signs[:, :, None]
        u[:, :, :columns] *= signs[:, None, :]
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

    The sign of a vector is free. Of symmetric matrices it is the one that an implicit QR
    iteration arrives at (see :func:`_by_iteration`), of triangular ones that of
    :func:`_by_substitution`, of others of two rows that of one step of https://ejml.org (which
    arrives at it for three in four such matrices of positive numbers); of larger ones the
    greatest element is positive. Matrices with complex eigenvalues have no result.
    """
    table = _real(stack, square=True)
    n, size = table.shape[:2]
    out = np.zeros((n, size, size + 1))
    ok = np.ones(n, bool)
    for k, matrix in enumerate(table):
        found: tuple[Stack, Stack] | None
        if not np.tril(matrix, -1).any() and (np.triu(matrix, 1).any() or not matrix.any()):
            found = _by_substitution(matrix)
            values, vectors = found
        elif np.isclose(matrix, matrix.T, rtol=1e-10, atol=0).all():
            found = _by_iteration(matrix) if size <= _SMALL else None
            values, vectors = np.linalg.eigh(matrix) if found is None else found
        else:
            values, vectors = np.linalg.eig(matrix)
            if np.iscomplexobj(values):
                if np.abs(values.imag).max() > 1e-10 * np.abs(values).max():
                    ok[k] = False
                    continue
                values, vectors = values.real, vectors.real
            found = None
        order = np.argsort(-values, kind="stable")
        rows = vectors.T[order]
        if found is None and size == 2:
            # A Householder step with the lesser eigenvalue as shift: the first vector is the
            # reflected axis, and the second has a part along the other one.
            down = rows[0, 0] or rows[0, 1] * matrix[1, 0]
            rows[0] *= -1.0 if down > 0 else 1.0
            rows[1] *= -1.0 if rows[1, 0] * rows[0, 1] < rows[1, 1] * rows[0, 0] else 1.0
        elif found is None:
            most = rows[np.arange(size), np.abs(rows).argmax(axis=1)]
            rows = rows * np.where(most < 0, -1.0, 1.0)[:, None]
        # No negative zeros.
        out[k] = np.column_stack([values[order], rows]) + 0.0
    return [out], None if ok.all() else ok


_SMALL = 64
_EPSILON = 2.0**-52


def _by_substitution(matrix: Stack) -> tuple[Stack, Stack]:
    """Return eigenvalues and vectors (as columns) of an upper triangular matrix, the last first.

    As https://ejml.org does, for which a matrix of zeros is one of these and no symmetric one:
    the diagonal are the eigenvalues, back substitution gives the vector of the first of equal
    ones with a last element of 1, and the others differ from it in where that element is.
    """
    size = len(matrix)
    values, vectors = np.diagonal(matrix)[::-1].copy(), np.zeros((size, size))
    scale = np.abs(matrix).max() or 1.0
    done = np.zeros(size, bool)
    for first in range(size):
        if done[first]:
            continue
        value = matrix[first, first]
        above = matrix[:first, :first] - value * np.eye(first)
        head = np.linalg.solve(above, -matrix[:first, first]) if first else np.zeros(0)
        for place in range(first, size):
            if abs(matrix[place, place] - value) < 100 * _EPSILON * scale:
                vector = np.zeros(size)
                vector[:first], vector[place] = head, 1.0
                vectors[:, size - 1 - place] = vector / np.linalg.norm(vector)
                done[place] = True
    return values, vectors


def _by_iteration(matrix: Stack) -> tuple[Stack, Stack] | None:
    """Return eigenvalues and vectors (as columns) of a symmetric matrix by the QR iteration.

    D. S. Watkins, Fundamentals of Matrix Computations, 2nd ed., pp. 377-385, with the signs of
    https://ejml.org, which Earth Engine names: Householder vectors to a tridiagonal matrix,
    the last of one element included; eigenvalues first, by Wilkinson's shifts; vectors in a
    second run shifted by them, whose rotations turn by the lesser of the two angles.
    None where that does not converge.
    """
    diagonal_, off, turned = _tridiagonal(matrix)
    values = diagonal_.copy()
    if not _iterate(values, off.copy(), None, None):
        return None
    found = diagonal_.copy()
    if not _iterate(found, off.copy(), turned, values):
        return None
    scale = max(float(np.abs(matrix).max()), 1e-300)
    if not np.allclose(matrix @ turned.T, turned.T * found, atol=1e-9 * scale):
        return None
    return found, turned.T


def _tridiagonal(matrix: Stack) -> tuple[Stack, Stack, Stack]:
    """Return diagonal, off-diagonal and the transposed basis of a similar tridiagonal matrix."""
    size = len(matrix)
    work_ = matrix.copy()
    basis = np.eye(size)
    for k in range(size - 1):
        x = work_[k + 1 :, k]
        most = np.abs(x).max()
        if most == 0:
            continue
        u = x / most
        length = np.linalg.norm(u) * (-1 if u[0] < 0 else 1)
        u[0] += length
        mirror = np.eye(size)
        mirror[k + 1 :, k + 1 :] -= 2 * np.outer(u, u) / (u @ u)
        work_ = mirror @ work_ @ mirror
        basis = mirror @ basis
    return np.diagonal(work_).copy(), np.diagonal(work_, 1).copy(), basis


def _iterate(d: Stack, e: Stack, basis: Stack | None, known: Stack | None) -> bool:
    """Diagonalise a tridiagonal matrix in place; ``known`` eigenvalues are its shifts."""
    low, high = 0, len(d) - 1
    splits: list[int] = []
    steps = 0
    while True:
        if low == high:
            if not splits:
                return True
            high = splits.pop()
            low = splits[-1] + 1 if splits else 0
            steps = 0
        elif known is None and high - low == 1:
            d[low], d[high] = _pair_values(d[low], e[low], d[high])
            e[low] = 0
            low, steps = high, 0
        elif steps > _MOST_STEPS:
            return False
        else:
            zero = next(
                (
                    k
                    for k in range(high - 1, low - 1, -1)
                    if abs(e[k]) <= (abs(d[k]) + abs(d[k + 1])) * _EPSILON
                ),
                None,
            )
            if zero is not None:
                splits.append(zero)
                low = zero + 1
            else:
                shift = known[high] if known is not None and steps <= 10 else _shift(d, e, high)
                _chase(d, e, basis, low, high, shift)
        steps += 1


_MOST_STEPS = 15


def _pair_values(a: float, b: float, c: float) -> tuple[float, float]:
    middle, reach = (a + c) / 2, float(np.hypot(b, (a - c) / 2))
    return middle + reach, middle - reach


def _shift(d: Stack, e: Stack, high: int) -> float:
    """Return the eigenvalue of the last two rows that is closest to the last element."""
    more, less = _pair_values(d[high - 1], e[high - 1], d[high])
    return more if abs(more - d[high]) < abs(less - d[high]) else less


def _chase(d: Stack, e: Stack, basis: Stack | None, low: int, high: int, shift: float) -> None:
    """Do one implicit QR step on rows low to high: make a bulge and chase it out."""
    run, rise = d[low] - shift, e[low]
    bulge = 0.0
    for k in range(low, high):
        if abs(rise) > abs(run):
            slope = run / rise
            s = 1 / np.hypot(1, slope)
            c = slope * s
        else:
            slope = rise / run
            c = 1 / np.hypot(1, slope)
            s = slope * c
        if k > low:
            e[k - 1] = c * e[k - 1] + s * bulge
        a, b, off = d[k], d[k + 1], e[k]
        d[k] = c * c * a + 2 * c * s * off + s * s * b
        d[k + 1] = c * c * b - 2 * c * s * off + s * s * a
        e[k] = off * (c * c - s * s) + c * s * (b - a)
        if basis is not None:
            upper, lower = basis[k].copy(), basis[k + 1].copy()
            basis[k], basis[k + 1] = c * upper + s * lower, c * lower - s * upper
        if k + 1 < high:
            bulge = s * e[k + 1]
            e[k + 1] = c * e[k + 1]
            if bulge == 0:
                return
            run, rise = e[k], bulge


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
