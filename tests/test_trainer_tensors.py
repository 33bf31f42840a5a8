"""Arrays in safetensors files: whole, for all to read, equal for equal arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from trainer.tensors import write_tensors


def test_strided_arrays_keep_their_values(tmp_path: Path) -> None:
    "safetensors by itself would write the memory below a column"
    table = np.arange(12.0).reshape(4, 3)
    path = tmp_path / "new" / "a.safetensors"
    write_tensors(path, {"column": table[:, 1], "turned": table.T})
    held = load_file(path)
    assert held["column"].tolist() == [1.0, 4.0, 7.0, 10.0]
    assert np.array_equal(held["turned"], table.T)


def test_others_may_read_the_file_as_any_other(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.safetensors", tmp_path / "plain"
    write_tensors(path, {"a": np.zeros(2)}, {"about": "nothing"})
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode
    first = path.read_bytes()
    write_tensors(path, {"a": np.zeros(2)}, {"about": "nothing"})
    assert path.read_bytes() == first
