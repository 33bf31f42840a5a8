"""Nets with random weights for the benchmarks of prediction."""

from __future__ import annotations

from typing import Any

ARCHITECTURES = ("unet", "linknet", "unetplusplus")


def random_members(bands: int, count: int = 3) -> list[Any]:
    """Return decoders with random weights in turn, their batch norms set by some noise."""
    import torch

    from trainer.segmentation.models import build
    from trainer.segmentation.predict import Member

    found = []
    for seed, architecture in enumerate(
        ARCHITECTURES[i % len(ARCHITECTURES)] for i in range(count)
    ):
        torch.manual_seed(seed)
        model = build(architecture, "tu-regnetx_002", bands, 3)
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(4, bands, 128, 128))
        place = tuple(range(bands))
        found.append(
            Member(f"{architecture} {seed}", model.eval(), place, (0.0,) * bands, (1.0,) * bands)
        )
    return found
