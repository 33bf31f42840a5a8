"""A made-up workspace with factors and labels, and the susceptibility steps run in order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from thawslump import raster
from thawslump.config import target
from thawslump.pipeline import STEPS, Item
from thawslump.workspace import Workspace
from trainer.susceptibility.config import SusceptibilityConfig

CRS = "EPSG:32652"
CONFIG = SusceptibilityConfig(block_size=300.0, resamples=100, trees=15, buffer=60.0)


def place(workspace: Workspace, name: str, role: str, seed: int, labelled: bool = True) -> None:
    """Write made-up factors (30 m) and labels (10 m); slumps lie where slope is high."""
    rng = np.random.default_rng(seed)
    height, width = 60, 80
    slope = ndimage.gaussian_filter(rng.normal(size=(height, width)), 3)
    slope = 10 + 5 * slope / slope.std()
    factors = np.stack(
        [
            rng.normal(300, 5, (height, width)),
            slope.clip(0),
            rng.uniform(0, 360, (height, width)),
            rng.uniform(0.2, 0.8, (height, width)),
        ]
    ).astype(np.float32)
    factors[3, :4, :4] = np.nan
    factors[:, -1, -1] = np.nan
    affine = Affine(30, 0, 500_000 + 10_000 * seed, 0, -30, 8_000_000)
    grid = GeoBox((height, width), affine, CRS)
    names = ("elevation", "slope", "aspect", "NDVI")
    raster.write_cog(workspace.factors(name), factors, grid, names, nodata=float("nan"))
    if labelled:
        labels = np.zeros((height * 3, width * 3), np.uint8)
        steep = np.argwhere(ndimage.maximum_filter(slope, 9) == slope)
        for row, column in steep[slope[tuple(steep.T)] > 13]:
            labels[row * 3 - 2 : row * 3 + 4, column * 3 - 3 : column * 3 + 3] = 1
        labels[-9:, :] = 255
        fine = GeoBox(labels.shape, Affine(10, 0, affine.c, 0, -10, affine.f), CRS)
        raster.write_cog(
            workspace.labels(1, name), labels[None], fine, ("label",), nodata=None, categorical=True
        )
    workspace.sites[name] = SimpleNamespace(role=role, made_up=True)


def settings(workspace: Workspace, **changes: Any) -> None:
    """Give the workspace other settings of susceptibility."""
    config = SusceptibilityConfig.model_validate({**CONFIG.model_dump(), **changes})
    workspace.__dict__["config"] = SimpleNamespace(susceptibility=config)


def world(root: Path) -> Workspace:
    """Return a workspace with four made-up sites: two to learn from, one to test, one to map."""
    held = Workspace(root)
    held.__dict__["sites"] = {}
    settings(held)
    place(held, "east", "train", 1)
    place(held, "north", "validation", 2)
    place(held, "south", "test", 3)
    place(held, "west", "area", 4, labelled=False)
    return held


def run_steps(workspace: Workspace, until: str = "susceptibility") -> list[tuple[Item, Any]]:
    """Run the susceptibility steps in their order; return the items with their facts."""
    done = []
    for step in STEPS:
        if step.name.startswith("susceptibility"):
            for item in target(step.plan)(workspace, 1):
                told: list[float] = []
                facts = target(item.target)(
                    item, workspace, lambda share, words, told=told: told.append(share)
                )
                assert told == sorted(told) and told[-1] == 1.0, (item.name, told)
                assert all(path.exists() for path in item.outputs), item.name
                done.append((item, facts))
            if step.name == until:
                break
    return done
