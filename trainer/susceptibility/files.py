"""Where the susceptibility steps of a round put their files (loads without numpy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.workspace import Workspace

__all__ = ["Files"]


@dataclass(frozen=True)
class Files:
    """Files of one round.

    Attributes
    ----------
    workspace : Workspace
    round : int
    """

    workspace: Workspace
    round: int

    @property
    def folder(self) -> Path:
        """The folder of all files but the maps and the summary."""
        return self.workspace.round(self.round) / "susceptibility"

    @property
    def samples(self) -> Path:
        """GeoParquet: a row per sample (`table.Samples`)."""
        return self.folder / "samples.parquet"

    @property
    def test_samples(self) -> Path:
        """GeoParquet: samples of the sites that nothing is learned from; only where there are."""
        return self.folder / "samples-test.parquet"

    @property
    def selection(self) -> Path:
        """JSON: collinearity, gain of each factor, what is kept."""
        return self.folder / "selection.json"

    def model(self, name: str) -> Path:
        """Return the fitted model (`persistence.save_model`)."""
        return self.folder / "models" / f"{name}.zip"

    def held(self, name: str) -> Path:
        """Return the held-out probabilities of a model, safetensors (`held.read`)."""
        return self.folder / "models" / f"{name}-held.safetensors"

    def folds(self, name: str) -> Path:
        """Return the folder of a model's finished folds; there only while it is being fitted."""
        return self.folder / "models" / f".{name}-folds"

    @property
    def comparison(self) -> Path:
        """JSON: scores of all models side by side, and which one draws the map."""
        return self.folder / "comparison.json"

    @property
    def table(self) -> Path:
        """CSV: the comparison as one table."""
        return self.folder / "comparison.csv"

    @property
    def applicability(self) -> Path:
        """Safetensors: the space of the training samples (`applicability.Applicability`)."""
        return self.folder / "applicability.safetensors"

    def figure(self, name: str) -> Path:
        """Return a figure, PNG."""
        return self.folder / "figures" / f"{name}.png"

    def probability(self, site: str, model: str | None = None) -> Path:
        """Return the map of a site: of the model that was chosen, or of another one beside it."""
        if model is None:
            return self.workspace.maps(self.round) / f"susceptibility-{site}.tif"
        return self.folder / "maps" / model / f"{site}.tif"

    def tally(self, site: str, model: str | None = None) -> Path:
        """Return the counts of a map (`tally.Tally`), safetensors, made with `probability`."""
        return self.folder / "tallies" / (model or "chosen") / f"{site}.safetensors"

    def part(self, site: str, model: str | None, name: str) -> Path:
        """Return a part of a large map: a plain GeoTIFF, its tally beside it."""
        return self.folder / "parts" / (model or "chosen") / site / f"{name}.tif"

    def models_spread(self, site: str) -> Path:
        """Return mean and spread of the maps of all models of a site, drawn side by side."""
        return self.folder / "maps" / f"all-{site}.tif"

    def classes(self, site: str) -> Path:
        """Return the class map of a site, of the model that was chosen."""
        return self.workspace.maps(self.round) / f"classes-{site}.tif"

    @property
    def ratios(self) -> Path:
        """CSV: frequency ratio of every class of every factor."""
        return self.folder / "frequency_ratios.csv"

    @property
    def summary(self) -> Path:
        """JSON: what the report reads."""
        return self.workspace.round(self.round) / "susceptibility.json"
