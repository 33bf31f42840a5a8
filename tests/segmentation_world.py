"""A made-up workspace with models of random weights: what prediction needs, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from safetensors.torch import save_file

from thawslump.files import write_json
from thawslump.raster import write_cog
from thawslump.workspace import Workspace
from trainer.segmentation import cards
from trainer.segmentation.models import build, parameters

BANDS = ("dVH", "slope", "dNDVI")
ENCODER = "tu-mobilenetv3_small_050"
SCALING = {"mean": (-1.0, 12.0, -0.1), "std": (2.0, 6.0, 0.2)}


def grid_at(shape: tuple[int, int], left: float = 5e5, size: float = 10.0) -> GeoBox:
    return GeoBox(shape, Affine(size, 0, left, 0, -size, 7.9e6), "EPSG:32652")


def a_stack(path: Path, shape: tuple[int, int], seed: int = 0, **changes: Any) -> np.ndarray:
    """Write bands of noise around the training means, with holes; return them."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(3, *shape))
    array = np.stack(
        [n * s + m for n, m, s in zip(noise, SCALING["mean"], SCALING["std"], strict=True)]
    ).astype("float32")
    array[:, 5:9, 3:7] = np.nan
    array[1, 20:24] = np.nan
    units = changes.pop("units", ("dB", "degree", "1"))
    names = changes.pop("names", BANDS)
    grid = grid_at(shape, size=changes.pop("size", 10.0))
    write_cog(path, array, grid, names, nodata=float("nan"), units=units)
    return array


def a_run(
    models: Path, name: str, seed: int = 0, architecture: str = "linknet", **changes: Any
) -> Path:
    """Write a run of random weights, with the item that training would write."""
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = build(architecture, ENCODER, len(BANDS), 3)
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(2, len(BANDS), 64, 64))
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    hyper = {"architecture": architecture, "encoder": ENCODER, "depth": 3, "batch": 2}
    item = cards.model_item(
        name,
        hyperparameters=hyper,
        bands=BANDS,
        **SCALING,
        weights=folder / "model.safetensors",
        parameters=parameters(model),
        framework_version="2",
        bounds=(129.0, 71.0, 130.0, 72.0),
        dates=("2019-06-15", "2023-09-01"),
        made_up=True,
        resolution=changes.pop("resolution", 10.0),
    )
    write_json(folder / "item.json", item)
    (folder / "README.md").write_text("made up")
    write_json(folder / "metrics.json", {"validation": {"f1": changes.pop("f1", 0.5 + seed / 100)}})
    return folder


def an_ensemble(
    models: Path,
    names: Sequence[str],
    weights: Mapping[str, float] | None = None,
    temperature: float = 1.0,
) -> Path:
    """Write the ensemble's item and record; return the item."""
    shares = weights or {name: 1 / len(names) for name in names}
    items = {name: cards.read_item(models / name / "item.json") for name in names}
    path = models / "ensemble" / "item.json"
    write_json(path, cards.ensemble_item("ensemble", items, shares, 0.5, temperature=temperature))
    record = {"threshold": 0.5, "members": [{"run": name} for name in names]}
    write_json(path.with_name("metrics.json"), record)
    return path


def a_workspace(
    root: Path, shape: tuple[int, int], *, settings: str = "", role: str = "test"
) -> Workspace:
    """Make a workspace with one site, two runs and their ensemble."""
    (root / "sites").mkdir(parents=True)
    (root / "thawslump.yaml").write_text(
        "segmentation:\n  window: 128\n  overlap: 32\n  prediction_block: 512\n"
        "  device: cpu\n" + settings
    )
    (root / "sites" / "site.yaml").write_text(
        f"name: site\nrole: {role}\nbounds: [129, 71.8, 129.02, 71.81]\n"
        "pre: {start: 2019-06-15, end: 2019-09-01}\n"
        "post: {start: 2023-06-15, end: 2023-09-01}\n"
        "outlines: known.gpkg\nmade_up: true\n"
    )
    place = Workspace(root)
    a_stack(place.stack("site"), shape)
    for seed in range(2):
        a_run(place.models(1), f"run{seed}", seed)
    an_ensemble(place.models(1), ["run0", "run1"])
    return Workspace(root)


def edit(path: Path, change: Any) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)
