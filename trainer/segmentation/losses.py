"""The five losses of the grid, blind to pixels that nobody looked at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from trainer.chips import IGNORE

__all__ = ["LOSSES", "loss_function"]

# Of a pixel with this logit and target 0, every one of the five losses is 0 to the last digit of
# float32; so ignored pixels need no indexing, and shapes stay the same for every batch.
_CERTAIN = -100.0

LOSSES = ("bce", "dice", "focal", "jaccard", "lovasz")


def loss_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss by name.

    Parameters
    ----------
    name : {"bce", "dice", "focal", "jaccard", "lovasz"}

    Returns
    -------
    callable
        (logits (n, 1, y, x), labels uint8 (n, y, x): 0, 1 or 255) -> scalar. Pixels labelled 255
        neither count nor get a gradient; without any other pixel the loss is 0.

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
        counted = (labels != IGNORE)[:, None]
        shown = torch.where(counted, logits, torch.full_like(logits, _CERTAIN))
        target = torch.where(counted, labels[:, None], 0).to(logits.dtype)
        value: Tensor = plain(shown.contiguous(), target.contiguous())
        if mean:
            # The mean was taken over all pixels; ignored ones added nothing to it.
            value = value * (counted.numel() / counted.sum().clamp(min=1))
        return value

    return loss
