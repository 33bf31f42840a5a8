"""The state of a run after an epoch, in one safetensors file: it is whole or it is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from thawslump.files import atomic

__all__ = ["load_state", "optimizer_tensors", "restore_optimizer", "save_state"]


def save_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts as one file, atomically.

    Raises
    ------
    StorageError
        The disk is full or not writable; an older state stays as it was.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # save_file would let no one but the owner read the file.
    content = save(contiguous, {"facts": json.dumps(facts, sort_keys=True)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load_state(path: Path, fingerprint: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a state written by `save_state`.

    Returns
    -------
    (tensors, facts), or None
        None where there is no state, it is damaged, or it belongs to another run
        (``facts["fingerprint"]`` differs): the run then begins anew.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            if facts.get("fingerprint") != fingerprint:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception:
        # safetensors raises its own error type, which has no public name.
        return None
    return tensors, facts


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the running values of an optimiser as named tensors."""
    found = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            found[f"{index}.{name}"] = torch.as_tensor(value)
    return found


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Put values from `optimizer_tensors` back, in the memory layout of the weights.

    The layout matters for equal bits: vectorised loops round differently in another order.
    """
    state: dict[int, dict[str, Tensor]] = {}
    weights = list(model.parameters())
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        weight = weights[int(index)]
        if tensor.shape == weight.shape and tensor.ndim:
            tensor = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    content = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})
