"""The step `susceptibility` of the pipeline (loads without numpy, torch or rasterio)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["plan_susceptibility"]


def plan_susceptibility(workspace: Workspace, round: int) -> list[Item]:
    """Return the one item of this step: models and maps from the labels of a round.

    - Learned from: every site with labels in this round, except those of role "test", whose
      slumps only score the fitted models.
    - Mapped: every site with factors.

    Fitting and mapping are one item because the classes of all maps share their limits.

    Parameters
    ----------
    workspace : Workspace
    round : int

    Returns
    -------
    list of Item
        Empty where no site has factors.
    """
    from thawslump.mosaic import of_maps
    from thawslump.pipeline import Item

    mapped = [name for name in sorted(workspace.sites) if workspace.factors(name).exists()]
    labelled = [name for name in mapped if workspace.labels(round, name).exists()]
    tested = [name for name in labelled if workspace.sites[name].role == "test"]
    learned = [name for name in labelled if name not in tested]
    if not learned:
        return []
    config = workspace.config.susceptibility
    folder = workspace.round(round)
    names = list(config.models)
    suffix = {"logistic": "json", "forest": "skops"}
    return [
        Item(
            step="susceptibility",
            name="maps",
            target="trainer.susceptibility.step:run",
            settings={
                **config.model_dump(mode="json"),
                "learn": learned,
                "test": tested,
                "map": mapped,
                "made_up": any(workspace.sites[name].made_up for name in mapped),
            },
            inputs=tuple(
                [workspace.factors(name) for name in mapped]
                + [workspace.labels(round, name) for name in labelled]
            ),
            outputs=tuple(
                [folder / "susceptibility.json"]
                + [folder / "susceptibility" / f"{name}.{suffix[name]}" for name in names]
                + [workspace.maps(round) / f"susceptibility-{name}.tif" for name in mapped]
                + list(of_maps(workspace, round, mapped, "susceptibility-", coarse=True))
            ),
            version=2,
            round=round,
            cost=10.0 * len(mapped),
        )
    ]
