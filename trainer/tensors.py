"""Arrays by name in one safetensors file: no code inside, equal arrays give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_tensors"]


def write_tensors(
    path: Path, parts: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None
) -> None:
    """Write arrays as safetensors, atomically, in a folder that is made where it is missing.

    Parameters
    ----------
    path : Path
    parts : mapping of name to ndarray
        Of any strides: safetensors by itself writes memory as it lies.
    about : mapping of str to str, optional
        Metadata; one key, as several are written in an order of their own.

    Raises
    ------
    StorageError
        The disk is full or not writable.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(part) for name, part in parts.items()}
    # Its save_file would let no one but the owner read the file.
    content = save(whole, None if about is None else dict(about))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
