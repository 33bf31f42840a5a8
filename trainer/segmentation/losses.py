"""The five losses of the grid, blind to pixels that nobody looked at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from thawslump.errors import ConfigError
from trainer.chips import IGNORE

__all__ = ["LOSSES", "SOFT_LOSSES", "loss_function"]

# Of a pixel with this logit and target 0, every one of the five losses is 0 to the last digit of
# float32; so ignored pixels need no indexing, and shapes stay the same for every batch.
_CERTAIN = -100.0
_LEAST = 1e-7

LOSSES = ("bce", "dice", "focal", "jaccard", "lovasz")
SOFT_LOSSES = ("bce", "dice", "jaccard")
"""Those that soft labels can be learned with: their least value is where output and label agree."""


def loss_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss by name.

    Parameters
    ----------
    name : {"bce", "dice", "focal", "jaccard", "lovasz"}

    Returns
    -------
    callable
        (logits (n, 1, y, x), labels uint8 (n, y, x): 0, 1 or 255) -> scalar. Pixels labelled 255
        neither count nor get a gradient; without any other pixel the loss is 0. Labels may be
        floating point, 0 to 1 or 255, for those of `SOFT_LOSSES`.

    Raises
    ------
    ConfigError
        Soft labels were given to a loss that has no meaning for them.

    Notes
    -----
    Against a soft label y, cross entropy is least at the probability p = y. The products p y of
    Dice and Jaccard would be best with p at 0 or 1; with soft labels the smaller of p and y
    stands for the product (Wang, Ning & Blaschko 2023, arXiv:2302.05666): equal to it where y is
    0 or 1, and least at p = y.

    Examples
    --------
    >>> logits = torch.zeros(1, 1, 1, 2)
    >>> round(loss_function("bce")(logits, torch.tensor([[[1, 255]]])).item(), 4)
    0.6931
    """
    import segmentation_models_pytorch.losses as smp

    if name == "bce":
        plain, mean = functional.binary_cross_entropy_with_logits, True
    elif name == "focal":
        plain, mean = smp.FocalLoss("binary"), True
    elif name == "dice":
        plain, mean = smp.DiceLoss("binary"), False
    elif name == "jaccard":
        plain, mean = smp.JaccardLoss("binary"), False
    elif name == "lovasz":
        plain, mean = smp.LovaszLoss("binary"), False
    else:
        raise ValueError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}")

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            return _soft(name, logits, labels)
        counted = (labels != IGNORE)[:, None]
        shown = torch.where(counted, logits, torch.full_like(logits, _CERTAIN))
        target = torch.where(counted, labels[:, None], 0).to(logits.dtype)
        value: Tensor = plain(shown.contiguous(), target.contiguous())
        if mean:
            # The mean was taken over all pixels; ignored ones added nothing to it.
            value = value * (counted.numel() / counted.sum().clamp(min=1))
        return value

    return loss


def _soft(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Return a loss against shares of experts; see `loss_function`."""
    if name not in SOFT_LOSSES:
        raise ConfigError(
            f"The loss {name} ranks or weighs pixels by a yes or no and cannot learn soft labels.",
            hint=f"Use {', '.join(SOFT_LOSSES)}, or labels: hard.",
        )
    counted = (labels != IGNORE)[:, None]
    target = torch.where(counted, labels[:, None], 0.0).to(logits.dtype)
    shown = torch.where(counted, logits, torch.full_like(logits, _CERTAIN))
    if name == "bce":
        value = functional.binary_cross_entropy_with_logits(shown, target, reduction="sum")
        return value / counted.sum().clamp(min=1)
    probability = torch.sigmoid(shown)
    shared = torch.minimum(probability, target).sum()
    total = (probability + target).sum()
    if name == "dice":
        share = 2 * shared / total.clamp(min=_LEAST)
    else:
        share = shared / (total - shared).clamp(min=_LEAST)
    # As with hard labels: without any slump these two say nothing.
    return (1 - share) * (target.sum() > 0)
