"""Small networks on vectors of factors, as scikit-learn classifiers; CPU or GPU."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from thawslump.errors import DataError
from trainer.susceptibility.labels import two_classes

__all__ = ["HE_DEPTHS", "FactorCnn", "Mlp", "Network", "device_of"]

HE_DEPTHS = (32, 48, 64, 96, 128, 256)
# Values of the input that go through a network at once: some 100 MB with the deepest layers.
_AT_ONCE = 2**20

# Where a file of a model is written or read, its weights go beside it (safetensors), not into it.
aside: ContextVar[dict[str, NDArray[Any]] | None] = ContextVar("aside", default=None)


@contextlib.contextmanager
def _one_thread(device: Any) -> Iterator[None]:
    """Batches of a few hundred small vectors cost more to hand to threads than to compute."""
    import torch

    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Network(ClassifierMixin, BaseEstimator, ABC):
    """Adam on binary cross-entropy; subclasses say what the network is.

    The rate falls along half a cosine to `least_rate` where one is given. Equal seeds give equal
    networks on the CPU; on a GPU equal to rounding.
    """

    epochs: int | None
    batch: int | None
    rate: float
    least_rate: float | None
    seed: int
    device: str

    @abstractmethod
    def _network(self, shape: tuple[int, ...]) -> Any:
        """Return the network: (n, *shape) to (n, 1), the logit of the second class."""

    @abstractmethod
    def _values(self, X: ArrayLike, y: ArrayLike | None = None) -> tuple[NDArray[Any], Any]:
        """Return samples checked and ready, float32 (n, *shape), and the labels (None without)."""

    def _schedule(self) -> tuple[int, int, float | None]:
        """Return epochs, batch and the rate at the end."""
        return int(self.epochs or 0), int(self.batch or 0), self.least_rate

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from samples.

        Parameters
        ----------
        X : array_like of float, shape (n, factors), of `windows.PatchCnn` (n, factors, h, w)
            Vectors finite and scaled already (a pipeline does it inside each fold).
        y : array_like, shape (n,)
            Two classes; the second in order is the one whose probability is learned.

        Raises
        ------
        ValueError
            Not two classes, or values that are not finite (as scikit-learn words it).
        """
        import torch

        values, labels = self._values(X, y)
        self.classes_, target = two_classes(self, labels)
        epochs, batch, least = self._schedule()
        device = device_of(self.device)
        # Others' random numbers are left as they were.
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            _one_thread(device),
        ):
            torch.manual_seed(self.seed)
            network = self._network(values.shape[1:]).to(device)
            order = torch.Generator().manual_seed(self.seed)
            x = torch.from_numpy(np.ascontiguousarray(values)).to(device)
            t = torch.from_numpy(target.astype(np.float32)).to(device)
            optimiser = torch.optim.Adam(network.parameters(), lr=self.rate)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimiser, epochs, eta_min=self.rate if least is None else min(least, self.rate)
            )
            network.train()
            for _ in range(epochs):
                for part in torch.randperm(len(x), generator=order).split(batch):
                    part = part.to(device)
                    optimiser.zero_grad()
                    loss = torch.nn.functional.binary_cross_entropy_with_logits(
                        network(x[part]).squeeze(1), t[part]
                    )
                    loss.backward()
                    optimiser.step()
                falling.step()
        network.eval()
        self.shape_ = tuple(int(n) for n in values.shape[1:])
        self.network_ = network.cpu()
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities of the two classes, shape (n, 2)."""
        import torch

        check_is_fitted(self, "network_")
        values, _ = self._values(X)
        device = device_of(self.device)
        network = self.network_.to(device)
        found = np.empty(len(values))
        step = max(1, _AT_ONCE // int(np.prod(self.shape_)))
        with torch.inference_mode():
            for first in range(0, len(values), step):
                part = np.ascontiguousarray(values[first : first + step])
                logits = network(torch.from_numpy(part).to(device)).squeeze(1)
                found[first : first + step] = torch.sigmoid(logits).cpu().numpy()
        self.network_ = network.cpu()
        return np.column_stack([1 - found, found])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class of each place."""
        second = self.predict_proba(X)[:, 1] >= 0.5
        return np.asarray(self.classes_)[second.astype(int)]

    def __getstate__(self) -> dict[str, Any]:
        """Weights as arrays: what is copied, sent or stored holds no torch object."""
        state = dict(super().__getstate__())
        network = state.pop("network_", None)
        if network is None:
            return state
        weights = {name: part.numpy().copy() for name, part in network.state_dict().items()}
        store = aside.get()
        if store is None:
            state["weights"] = weights
        else:
            state["weights"] = f"network {len({key.split('/')[0] for key in store})}"
            store.update({f"{state['weights']}/{name}": part for name, part in weights.items()})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        import torch

        held = dict(state)
        weights = held.pop("weights", None)
        super().__setstate__(held)
        if weights is None:
            return
        if isinstance(weights, str):
            store, prefix = aside.get() or {}, weights + "/"
            weights = {k.removeprefix(prefix): v for k, v in store.items() if k.startswith(prefix)}
        network = self._network(tuple(self.shape_))
        expected = {name: tuple(part.shape) for name, part in network.state_dict().items()}
        given = {name: tuple(part.shape) for name, part in weights.items()}
        if given != expected:
            odd = sorted(k for k in {*given, *expected} if given.get(k) != expected.get(k))
            raise DataError(
                f"Weights of a {type(self).__name__} do not fit its layout: {', '.join(odd[:4])}.",
                hint="The file was changed or is of another version; fit the model again.",
            )
        network.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in weights.items()})
        network.eval()
        self.network_ = network


class _Vectors(Network):
    """A network on vectors of factors."""

    def _values(self, X: ArrayLike, y: ArrayLike | None = None) -> tuple[NDArray[Any], Any]:
        if y is None:
            return validate_data(self, X, dtype=np.float32, reset=False), None
        values, labels = validate_data(self, X, y, dtype=np.float32)
        return values, labels


class Mlp(_Vectors):
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
    least_rate : float, optional
        At the end; where not given the rate stays, as in the paper.
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
        least_rate: float | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.dropout = dropout
        self.least_rate = least_rate
        self.seed = seed
        self.device = device

    def _network(self, shape: tuple[int, ...]) -> Any:
        from torch import nn

        layers: list[Any] = []
        width = shape[0]
        for units in self.hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(self.dropout)]
            width = units
        return nn.Sequential(*layers, nn.Linear(width, 1))


class FactorCnn(_Vectors):
    """A convolutional network along the vector of factors, in the layouts of the two papers.

    The order of the factors is part of the model: neighbours in it share weights.

    Parameters
    ----------
    layout : {"he", "zhang"}
        ``he`` (He et al. 2024): kernels of 3, depths 32, 48, 64, 96, 128 and 256, pooling, fully
        connected; batch 128, 120 epochs, rate down to 1e-6.
        ``zhang`` (Zhang et al. 2023): 14 channels, kernel 2, pooling by 2, 20 units, dropout 0.2;
        rate 0.001, 500 epochs.
    epochs, batch : int, optional
        Those of the layout where not given (``zhang`` names no batch: 32).
    rate : float
        At the start; Adam.
    least_rate : float, optional
        At the end; of the layout where not given.
    seed : int
    device : {"auto", "cpu", "cuda"}

    Notes
    -----
    He et al. print kernels of 3 x 3 and do not say how a sample of 14 factors becomes an image.
    On a column of factors, padded with zeros, a 3 x 3 kernel only ever sees its middle column:
    that is the kernel of 3 used here. On windows of the rasters the kernels are 3 x 3
    (`windows.PatchCnn`). Nor do they say how many poolings there are: here one after every second
    convolution, as long as two values are left. Activations are ReLU; He et al. speak of sigmoids
    in general. The two output neurons of Zhang et al. are one logit here, which is the same loss.
    They print "b values of 0.01" for Adam; the usual ones (0.9, 0.999) are used.
    """

    def __init__(
        self,
        layout: Literal["he", "zhang"] = "he",
        epochs: int | None = None,
        batch: int | None = None,
        rate: float = 1e-3,
        least_rate: float | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.layout = layout
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.least_rate = least_rate
        self.seed = seed
        self.device = device

    def _schedule(self) -> tuple[int, int, float | None]:
        epochs, batch, least = (500, 32, None) if self.layout == "zhang" else (120, 128, 1e-6)
        return (
            epochs if self.epochs is None else self.epochs,
            batch if self.batch is None else self.batch,
            least if self.least_rate is None else self.least_rate,
        )

    def _network(self, shape: tuple[int, ...]) -> Any:
        from torch import nn

        (features,) = shape
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
        for number, depth in enumerate(HE_DEPTHS):
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


def device_of(name: str) -> Any:
    """Return torch's device; "auto" is the GPU where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
