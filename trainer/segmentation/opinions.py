"""What several models say of the same pixels, gathered one model after another."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Opinions", "entropy"]


def entropy(probability: Tensor) -> Tensor:
    """Return the entropy of a yes-or-no probability.

    Parameters
    ----------
    probability : Tensor of float

    Returns
    -------
    Tensor
        Nats: 0 where certain, ln 2 = 0.6931 at one half.

    Examples
    --------
    >>> entropy(torch.tensor([0.0, 0.5, 1.0])).round(decimals=4).tolist()
    [0.0, 0.6930999755859375, 0.0]
    """
    return torch.special.entr(probability) + torch.special.entr(1 - probability)


class Opinions:
    """Weighted mean, spread and mutual information over models, in one pass.

    Memory does not grow with the number of models. The updates are West's (1979) of Welford's:
    models that say the same have a deviation and an information of exactly zero.

    Parameters
    ----------
    like : Tensor of float32
        Of the shape of the probabilities, on their device.
    one : bool
        There will be one model only: deviation and information are 0, and cost nothing.

    Examples
    --------
    >>> said = Opinions(torch.zeros(2))
    >>> for p in ([0.0, 0.5], [1.0, 0.5]):
    ...     said.add(torch.tensor(p), torch.tensor([True, True]))
    >>> said.mean.tolist(), said.deviation.tolist(), said.information.round(decimals=4).tolist()
    ([0.5, 0.5], [0.5, 0.0], [0.6930999755859375, 0.0])
    """

    def __init__(self, like: Tensor, *, one: bool = False) -> None:
        self._one = one
        self._weight = torch.zeros_like(like)
        self._mean = torch.zeros_like(like)
        self._squares = torch.zeros_like(like)
        self._entropy = torch.zeros_like(like)

    def add(self, probability: Tensor, there: Tensor, weight: float = 1.0) -> None:
        """Hear one more model.

        Parameters
        ----------
        probability : Tensor of float32
        there : Tensor of bool
            Where the model has data; it says nothing elsewhere.
        weight : float
            Of the model, above 0.
        """
        share = there * weight
        self._weight += share
        # Where nothing was heard yet, the share is 0 too.
        part = share / self._weight.clamp(min=torch.finfo(share.dtype).tiny)
        step = probability - self._mean
        self._mean += part * step
        if self._one:
            return
        self._squares += share * step * (probability - self._mean)
        self._entropy += part * (entropy(probability) - self._entropy)

    @property
    def heard(self) -> Tensor:
        """Where at least one model has data (bool)."""
        return self._weight > 0

    @property
    def mean(self) -> Tensor:
        """Weighted mean of the probabilities; 0 where no model has data."""
        return self._mean

    @property
    def deviation(self) -> Tensor:
        """Weighted standard deviation (of the population: 0.5 at most)."""
        if self._one:
            return self._squares
        weight = self._weight.clamp(min=torch.finfo(self._weight.dtype).tiny)
        return (self._squares / weight).clamp(min=0).sqrt()

    @property
    def information(self) -> Tensor:
        """Mutual information of the answer and the choice of a model, nats.

        The entropy of the mean less the mean entropy (Houlsby et al. 2011): what hearing the right
        model would teach. 0 where all say the same, however unsure they are.
        """
        if self._one:
            return self._entropy
        return (entropy(self._mean) - self._entropy).clamp(min=0)
