"""Networks on windows of the factor rasters around each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.networks import HE_DEPTHS, Network

__all__ = ["PatchCnn", "patches"]


class PatchCnn(Network):
    """A convolutional network on windows of the factors around each sample (3 x 3 kernels).

    Standardised inside: mean and spread of each factor are those of the windows learned from. A
    missing value counts as the mean. He et al. 2024 name the depths; see `networks.FactorCnn`.

    Parameters
    ----------
    depths : tuple of int
        Of the convolutions; a pooling by 2 follows every second one while two cells are left.
    units : int
        Of the fully connected layer.
    dropout : float
        Before the last layer, while learning.
    turn : bool
        Show the windows in all eight orientations while learning. Not with factors that have a
        direction of their own, such as the sine of the aspect.
    epochs, batch : int
    rate, least_rate : float
        Of Adam, at the start and at the end.
    seed : int
    device : {"auto", "cpu", "cuda"}

    Examples
    --------
    >>> x = np.zeros((8, 1, 5, 5))
    >>> x[4:, 0, 2, 2] = 1
    >>> model = PatchCnn((4,), units=8, epochs=40, rate=0.05, device="cpu")
    >>> model.fit(x, [0, 0, 0, 0, 1, 1, 1, 1]).predict(x).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    """

    def __init__(
        self,
        depths: tuple[int, ...] = HE_DEPTHS,
        units: int = 128,
        dropout: float = 0.0,
        turn: bool = False,
        epochs: int = 120,
        batch: int = 128,
        rate: float = 1e-3,
        least_rate: float | None = 1e-6,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.depths = depths
        self.units = units
        self.dropout = dropout
        self.turn = turn
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.least_rate = least_rate
        self.seed = seed
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _values(self, X: ArrayLike, y: ArrayLike | None = None) -> tuple[NDArray[Any], Any]:
        values = np.asarray(X, np.float32)
        if values.ndim != 4 or min(values.shape) < 1:
            raise DataError(
                f"Windows of shape {values.shape} were given.",
                hint="Give (samples, factors, height, width), as `patches` cuts them.",
            )
        if np.isinf(values).any():
            raise DataError("Windows hold infinite values.", hint="Use NaN where nothing is known.")
        labels = None
        if y is not None:
            labels = np.asarray(y).ravel()
            if labels.size != len(values):
                raise DataError(
                    f"There are {labels.size} labels for {len(values)} windows.",
                    hint="Give one label per window.",
                )
            known = ~np.isnan(values)
            count = np.maximum(known.sum(axis=(0, 2, 3)), 1)
            filled = np.where(known, values, 0).astype(np.float64)
            self.mean_ = filled.sum(axis=(0, 2, 3)) / count
            off = np.where(known, values - self.mean_[:, None, None], 0)
            spread = np.sqrt((off**2).sum(axis=(0, 2, 3)) / count)
            self.scale_ = np.where(spread > 0, spread, 1.0)
            self.n_features_in_ = values.shape[1]
        elif values.shape[1:] != tuple(self.shape_):
            raise DataError(
                f"Windows of {values.shape[1:]} were given to a model that learned from "
                f"{tuple(self.shape_)} (factors, height, width).",
                hint="Cut them with the same factors and the same size.",
            )
        scaled = (values - self.mean_[:, None, None]) / self.scale_[:, None, None]
        return np.nan_to_num(scaled).astype(np.float32), labels

    def _network(self, shape: tuple[int, ...]) -> Any:
        from torch import nn

        channels, height, width = shape
        layers: list[Any] = [_Turns()] if self.turn else []
        for number, depth in enumerate(self.depths):
            layers += [nn.Conv2d(channels, depth, 3, padding=1), nn.ReLU()]
            channels = depth
            if number % 2 and min(height, width) >= 2:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        return nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(channels * height * width, self.units),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.units, 1),
        )


def _Turns() -> Any:
    """Return a layer that turns and mirrors each batch at random while learning."""
    import torch

    class Turns(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            if not self.training:
                return x
            turns, mirrored = torch.randint(0, 4, (1,)).item(), torch.rand(1).item() < 0.5
            if x.shape[-1] != x.shape[-2]:
                turns = turns // 2 * 2
            x = torch.rot90(x, int(turns), (2, 3))
            return x.flip(3) if mirrored else x

    return Turns()


def patches(
    factors: NDArray[np.floating[Any]], rows: ArrayLike, columns: ArrayLike, size: int
) -> NDArray[np.float32]:
    """Return the windows of the factors around cells.

    Parameters
    ----------
    factors : ndarray of float, shape (k, height, width)
        NaN where missing.
    rows, columns : array_like of int, shape (n,)
        Cells inside the raster.
    size : int
        Edge of a window in cells; odd.

    Returns
    -------
    ndarray of float32, shape (n, k, size, size)
        NaN beyond the raster's edge.

    Raises
    ------
    DataError
        An even size, or cells outside.

    Examples
    --------
    >>> patches(np.arange(9.0).reshape(1, 3, 3), [1, 0], [1, 0], 3)[:, 0].tolist()[0][0]
    [0.0, 1.0, 2.0]
    """
    if size < 1 or size % 2 == 0:
        raise DataError(f"Windows of {size} cells have no middle cell.", hint="Give an odd size.")
    y, x = np.asarray(rows, np.int64).ravel(), np.asarray(columns, np.int64).ravel()
    height, width = factors.shape[1:]
    outside = (y < 0) | (x < 0) | (y >= height) | (x >= width)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"Cell (row {y[first]}, column {x[first]}) lies outside {height} x {width} cells.",
            hint="Give cells of this raster.",
        )
    half = size // 2
    # Only the samples' windows are copied, never all of them.
    along = np.arange(-half, half + 1)
    yy, xx = y[:, None, None] + along[:, None], x[:, None, None] + along[None, :]
    inside = (yy >= 0) & (xx >= 0) & (yy < height) & (xx < width)
    held = np.asarray(factors)[:, yy.clip(0, height - 1), xx.clip(0, width - 1)]
    return np.where(inside, held, np.nan).transpose(1, 0, 2, 3).astype(np.float32)
