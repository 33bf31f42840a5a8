"""Where prediction is computed, and in which precision."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thawslump.errors import ConfigError, ThawslumpError

__all__ = ["Device", "chosen"]


@dataclass
class Device:
    """A processor or GPU.

    Attributes
    ----------
    where : torch.device
    precision : torch.dtype or None
        Lower precision that layers may use where it is safe (autocast); None is float32 throughout.
    most : int or None
        Windows at once that its memory holds, once it was found too small for more.
    """

    where: torch.device
    precision: torch.dtype | None = None
    most: int | None = None

    def logits(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return what a model says of some images, in fewer at a time where memory is short.

        Parameters
        ----------
        model : callable
            (n, channel, y, x) -> (n, 1, y, x).
        images : Tensor of float32, shape (n, channel, y, x)

        Returns
        -------
        Tensor of float32, shape (n, y, x)

        Raises
        ------
        ThawslumpError
            Not even one image fits.
        """
        count = len(images)
        size = min(count, self.most or count)
        while True:
            try:
                parts = [self._once(model, images[i : i + size]) for i in range(0, count, size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise ThawslumpError(
                        f"The memory of {self.where} is too small for one window of "
                        f"{images.shape[-2]} x {images.shape[-1]} pixels.",
                        hint="Lower segmentation.window, or set segmentation.device: cpu.",
                    ) from error
            if self.where.type == "cuda":
                torch.cuda.empty_cache()
            size = self.most = -(-size // 2)

    def _once(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with torch.autocast(
            self.where.type, dtype=self.precision, enabled=self.precision is not None
        ):
            return model(images)[:, 0].float()


def chosen(name: str, worker: int | None = None) -> Device:
    """Return the device of a setting.

    Parameters
    ----------
    name : str
        auto (a GPU where there is one), cpu, cuda (a GPU) or cuda:N.
    worker : int, optional
        Number of this worker, from 0: several workers spread over the GPUs. From the name of the
        process where not given.

    Returns
    -------
    Device
        bfloat16 where a GPU has it, else float32.

    Raises
    ------
    ConfigError
        A GPU is asked for and not there.

    Examples
    --------
    >>> chosen("cpu")
    Device(where=device(type='cpu'), precision=None, most=None)
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return Device(torch.device("cpu"))
    _, _, index = name.partition(":")
    if not count or (index and int(index) >= count):
        raise ConfigError(
            f"segmentation.device is {name}, but torch finds {count} GPUs here.",
            hint="Set it to auto or cpu; or look why with `thawslump doctor`.",
        )
    # Deterministic algorithms need this said before the first matrix product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    number = int(index) if index else (_worker() if worker is None else worker) % count
    where = torch.device("cuda", number)
    with torch.cuda.device(where):
        return Device(where, torch.bfloat16 if torch.cuda.is_bf16_supported() else None)


def _worker() -> int:
    """Return the number of this process among the workers of its parent, from 0."""
    digits = re.search(r"(\d+)$", multiprocessing.current_process().name)
    return int(digits.group(1)) - 1 if digits else os.getpid()
