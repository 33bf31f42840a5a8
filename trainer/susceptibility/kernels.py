"""Sums of radial kernels over support vectors, as matrix products over blocks.

Libraries for support vectors walk over the pairs of a row and a support vector one by one. With

    -gamma ||x - s||^2 = 2 gamma x.s - gamma ||x||^2 - gamma ||s||^2

one product of two small matrices gives the exponents of a whole block of pairs; the exponential
and the weighted sum then run over memory that is still in the cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError

__all__ = ["RadialSum"]

# 256 x 1024 exponents of 4 bytes are 1 MiB, which a core's second cache holds.
ROWS, VECTORS = 256, 1024
# On a GPU memory is the only limit: 8192 x 8192 exponents are 256 MiB.
DEVICE_ROWS, DEVICE_VECTORS = 8192, 8192
# exp(-746) is 0 even in double precision: rows farther than that are the intercept alone, and
# what is left cannot overflow.
SILENT = 746.0


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


@dataclass(frozen=True)
class RadialSum:
    """f(x) = sum_i weights_i exp(-gamma ||x - vectors_i||^2) + intercept.

    Attributes
    ----------
    vectors : ndarray of float64, shape (s, k)
        Support vectors.
    weights : ndarray of float64, shape (s,)
        Their dual coefficients.
    gamma : float
        Above 0, in one over the square of the features' unit.
    intercept : float

    Notes
    -----
    The features are centred on the support vectors first, so that the three terms above cancel
    little. Where single precision could still be off by more than the tolerance asked for (values
    far from 0 beside a large gamma), these rows are summed in double precision.

    Examples
    --------
    >>> bump = RadialSum(np.array([[0.0], [2.0]]), np.array([1.0, -1.0]), 1.0, 0.5)
    >>> bump([[0.0], [1.0]]).round(4).tolist()
    [1.4817, 0.5]
    """

    vectors: NDArray[np.float64]
    weights: NDArray[np.float64]
    gamma: float
    intercept: float
    _folded: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, fitted: Any) -> RadialSum:
        """Take the sum out of a fitted `sklearn.svm.SVR` or two-class `SVC` (radial kernel).

        Raises
        ------
        DataError
            Another kernel, or more than two classes.
        """
        if fitted.kernel != "rbf" or len(fitted.dual_coef_) != 1:
            raise DataError(
                f"{type(fitted).__name__} with kernel {fitted.kernel!r} and "
                f"{len(fitted.dual_coef_)} rows of weights is no single sum of radial kernels.",
                hint="Give a regression, or a classifier of two classes, with kernel='rbf'.",
            )
        width = fitted.gamma
        if isinstance(width, str):
            width = fitted._gamma  # the number that "scale" and "auto" stood for
        return cls(
            np.array(fitted.support_vectors_, np.float64),
            np.array(fitted.dual_coef_[0], np.float64),
            float(width),
            float(fitted.intercept_[0]),
        )

    def __call__(
        self, X: ArrayLike, tolerance: float = 1e-4, device: str = "cpu", threads: int = 1
    ) -> NDArray[np.float64]:
        """Return the value of each row.

        Parameters
        ----------
        X : array_like of float, shape (n, k)
            Finite.
        tolerance : float
            Largest error that rounding is expected to make (four standard deviations, with the
            roundings of the support vectors taken as independent). 0 asks for double precision
            throughout, equal to the library's to about 1e-12.
        device : str
            Of torch, such as "cuda"; "cpu" is numpy.
        threads : int
            That share the blocks of rows on a CPU.

        Returns
        -------
        ndarray of float64, shape (n,)

        Raises
        ------
        DataError
            Another number of features than the support vectors have.
        """
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"Rows of shape {rows.shape} were given to support vectors of "
                f"{self.vectors.shape[1]} features.",
                hint="Give (cells, features), with the features that the model learned from.",
            )
        found = np.empty(len(rows))
        step = ROWS if device == "cpu" else DEVICE_ROWS

        def fill(first: int) -> None:
            block = rows[first : first + step].astype(np.float64) - self._centre
            squares = np.einsum("ij,ij->i", block, block)
            least = self._least_exponent(squares)
            near = least < SILENT
            exact = self._rounding(squares, least) > tolerance
            part = np.zeros(len(block))
            for chosen, kind in ((near & ~exact, np.float32), (near & exact, np.float64)):
                if chosen.all():
                    part = self._sum(block, squares, kind, device)
                elif chosen.any():
                    part[chosen] = self._sum(block[chosen], squares[chosen], kind, device)
            found[first : first + step] = part

        blocks = range(0, len(rows), step)
        if device != "cpu":
            for first in blocks:
                fill(first)
            return found + self.intercept
        # The products are too small to be shared out: BLAS threads would spend their time waiting
        # for each other, on a busy machine nearly all of it.
        with _blas().limit(limits=1, user_api="blas"):
            if blocks:
                fill(0)  # what is prepared once is prepared before threads ask for it
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(fill, blocks[1:]))
            else:
                for first in blocks[1:]:
                    fill(first)
        return found + self.intercept

    @property
    def _centre(self) -> NDArray[np.float64]:
        if "centre" not in self._folded:
            self._folded["centre"] = self.vectors.mean(axis=0)
        return np.asarray(self._folded["centre"])

    def _least_exponent(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Least gamma ||x - s||^2 that rows at these squared distances from the centre can have."""
        if "reach" not in self._folded:
            away = self.vectors - self._centre
            squared = np.einsum("ij,ij->i", away, away)
            self._folded["reach"] = float(np.sqrt(squared.max()))
            self._folded["size"] = float(np.linalg.norm(self.weights))
            self._folded["bent"] = float(np.linalg.norm(self.weights * squared))
        nearest = np.maximum(0.0, np.sqrt(squares) - self._folded["reach"])
        return np.asarray(self.gamma * nearest**2)

    def _rounding(
        self, squares: NDArray[np.float64], least: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Expected error in single precision.

        An exponent is off by about the rounding of its terms, independently of the others; the
        kernel of a far row is small, and its error with it.
        """
        size, bent = self._folded["size"], self._folded["bent"]
        terms = size * (1.0 + self.gamma * squares) + self.gamma * bent
        # Four times the spread: what one row in ten thousand reaches.
        return np.asarray(2.0 * np.finfo(np.float32).eps * terms * np.exp(-least))

    def _sum(
        self, block: NDArray[np.float64], squares: NDArray[np.float64], kind: Any, device: str
    ) -> NDArray[np.float64]:
        # The two squares ride along as further columns: one product gives whole exponents.
        left = np.empty((len(block), block.shape[1] + 2), kind)
        left[:, :-2] = block * np.sqrt(2.0 * self.gamma)
        left[:, -2] = -self.gamma * squares
        left[:, -1] = 1.0
        if device != "cpu":
            return self._sum_on(left, kind, device)
        key = np.dtype(kind).name
        if key not in self._folded:
            self._folded[key] = self._right(kind)
        right, weights = self._folded[key]
        total = np.zeros(len(block))
        for first in range(0, weights.size, VECTORS):
            kernel = left @ right[:, first : first + VECTORS]
            np.minimum(kernel, 0, out=kernel)
            np.exp(kernel, out=kernel)
            total += kernel @ weights[first : first + VECTORS]
        return total

    def _right(self, kind: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        away = self.vectors - self._centre
        right = np.vstack(
            [
                (away * np.sqrt(2.0 * self.gamma)).T,
                np.ones(len(away)),
                -self.gamma * np.einsum("ij,ij->i", away, away),
            ]
        )
        # Libraries keep the vectors by class, so by the sign of their weights: mixed, the partial
        # sums stay small and round less.
        mixed = np.random.default_rng(0).permutation(len(away))
        return np.ascontiguousarray(right[:, mixed], kind), self.weights[mixed].astype(kind)

    def _sum_on(self, left: NDArray[Any], kind: Any, device: str) -> NDArray[np.float64]:
        import torch

        key = (np.dtype(kind).name, device)
        if key not in self._folded:
            self._folded[key] = tuple(
                torch.from_numpy(part).to(device) for part in self._right(kind)
            )
        right, weights = self._folded[key]
        rows = torch.from_numpy(left).to(device)
        total = torch.zeros(len(left), dtype=torch.float64, device=device)
        # TF32 would round the products to 10 bits.
        held = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            for first in range(0, len(weights), DEVICE_VECTORS):
                kernel = rows @ right[:, first : first + DEVICE_VECTORS]
                total += kernel.clamp_(max=0).exp_() @ weights[first : first + DEVICE_VECTORS]
        finally:
            torch.backends.cuda.matmul.allow_tf32 = held
        return np.asarray(total.cpu().numpy())
