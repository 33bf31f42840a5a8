"""Small networks on factor vectors, as scikit-learn classifiers; CPU or GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["FactorCnn", "Mlp"]

_AT_ONCE = 65536


class _Network(ClassifierMixin, BaseEstimator, ABC):
    """Adam on binary cross-entropy; subclasses say what the network is.

    The rate falls along half a cosine to 1e-6. Equal seeds give equal networks on the CPU.
    Inputs are expected to be scaled already (a pipeline does it inside each fold).
    """

    epochs: int
    batch: int
    rate: float
    seed: int
    device: str

    @abstractmethod
    def _network(self, features: int) -> Any:
        """Return the network: (n, features) to (n, 1), the logit of the second class."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from samples.

        Parameters
        ----------
        X : array_like of float, shape (n, factors)
            Finite.
        y : array_like, shape (n,)
            Two classes; the second in order is the one whose probability is learned.

        Raises
        ------
        ValueError
            Not two classes, or values that are not finite (as scikit-learn words it).
        """
        import torch

        values, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        self.classes_, target = np.unique(labels, return_inverse=True)
        if self.classes_.size != 2:
            raise ValueError(
                f"{type(self).__name__} was given {self.classes_.size} class"
                f"{'' if self.classes_.size == 1 else 'es'}; expected two."
            )
        device = _device(self.device)
        # Others' random numbers are left as they were.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            network = self._network(values.shape[1]).to(device)
            order = torch.Generator().manual_seed(self.seed)
            x = torch.from_numpy(np.ascontiguousarray(values)).to(device)
            t = torch.from_numpy(target.astype(np.float32)).to(device)
            optimiser = torch.optim.Adam(network.parameters(), lr=self.rate)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimiser, self.epochs, eta_min=min(1e-6, self.rate)
            )
            network.train()
            for _ in range(self.epochs):
                for part in torch.randperm(len(x), generator=order).split(self.batch):
                    part = part.to(device)
                    optimiser.zero_grad()
                    loss = torch.nn.functional.binary_cross_entropy_with_logits(
                        network(x[part]).squeeze(1), t[part]
                    )
                    loss.backward()
                    optimiser.step()
                falling.step()
        network.eval()
        self.network_ = network.cpu()
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities of the two classes, shape (n, 2)."""
        import torch

        check_is_fitted(self, "network_")
        values = validate_data(self, X, dtype=np.float32, reset=False)
        device = _device(self.device)
        network = self.network_.to(device)
        found = np.empty(len(values))
        with torch.inference_mode():
            for first in range(0, len(values), _AT_ONCE):
                part = np.ascontiguousarray(values[first : first + _AT_ONCE])
                logits = network(torch.from_numpy(part).to(device)).squeeze(1)
                found[first : first + _AT_ONCE] = torch.sigmoid(logits).cpu().numpy()
        self.network_ = network.cpu()
        return np.column_stack([1 - found, found])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class of each place."""
        return np.asarray(self.classes_)[(self.predict_proba(X)[:, 1] >= 0.5).astype(int)]


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


class Mlp(_Network):
    """A multilayer perceptron (He et al. 2024: 512, 256, 128; batch 128, 180 epochs, rate 1e-4).

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers.
    epochs, batch : int
    rate : float
        At the start.
    dropout : float
        Share of units left out while learning.
    seed : int
    device : {"auto", "cpu", "cuda"}

    Examples
    --------
    >>> x = np.array([[0.0], [0.2], [0.8], [1.0]])
    >>> model = Mlp((8,), epochs=60, rate=0.05).fit(x, [0, 0, 1, 1])
    >>> model.predict([[0.1], [0.9]]).tolist()
    [0, 1]
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (512, 256, 128),
        epochs: int = 180,
        batch: int = 128,
        rate: float = 1e-4,
        dropout: float = 0.0,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.dropout = dropout
        self.seed = seed
        self.device = device

    def _network(self, features: int) -> Any:
        from torch import nn

        layers: list[Any] = []
        width = features
        for units in self.hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(self.dropout)]
            width = units
        return nn.Sequential(*layers, nn.Linear(width, 1))


class FactorCnn(_Network):
    """A convolutional network along the vector of factors, in the layouts of the two papers.

    The order of the factors is part of the model: neighbours in it share weights.

    Parameters
    ----------
    layout : {"he", "zhang"}
        ``he`` (He et al. 2024): kernels of 3, depths 32 to 256, pooling, batch 128, 120 epochs.
        ``zhang`` (Zhang et al. 2023): 14 channels, kernel 2, pooling by 2, 20 units, dropout 0.2.
    epochs, batch : int
    rate : float
    seed : int
    device : {"auto", "cpu", "cuda"}

    Notes
    -----
    The papers leave open how many poolings fit a vector of 14 factors: here there is one after
    every second convolution, as long as two values are left.
    """

    def __init__(
        self,
        layout: Literal["he", "zhang"] = "he",
        epochs: int = 120,
        batch: int = 128,
        rate: float = 1e-3,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.layout = layout
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.seed = seed
        self.device = device

    def _network(self, features: int) -> Any:
        from torch import nn

        if self.layout == "zhang":
            kernel = min(2, features)
            left = features - kernel + 1
            pool = 2 if left >= 2 else 1
            return nn.Sequential(
                nn.Unflatten(1, (1, features)),
                nn.Conv1d(1, 14, kernel),
                nn.ReLU(),
                nn.MaxPool1d(pool),
                nn.Flatten(),
                nn.Linear(14 * (left // pool), 20),
                nn.ReLU(),
                nn.Dropout(0.2),
                nn.Linear(20, 1),
            )
        if self.layout != "he":
            raise ValueError(f"layout is {self.layout!r}; expected 'he' or 'zhang'.")
        layers: list[Any] = [nn.Unflatten(1, (1, features))]
        channels, length = 1, features
        for number, depth in enumerate((32, 48, 64, 96, 128, 256)):
            layers += [nn.Conv1d(channels, depth, 3, padding=1), nn.ReLU()]
            channels = depth
            if number % 2 and length >= 2:
                layers.append(nn.MaxPool1d(2))
                length //= 2
        return nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(channels * length, 128),
            nn.ReLU(),
            nn.Linear(128, 1),
        )
