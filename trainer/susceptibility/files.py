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

    def histogram(self, site: str, model: str | None = None) -> Path:
        """Return the counts of a map: JSON, written beside the work of `probability`."""
        return self.folder / "histograms" / f"{model or 'chosen'}-{site}.json"

    def classes(self, site: str) -> Path:
        """Return the class map of a site, of the model that was chosen."""
        return self.workspace.maps(self.round) / f"classes-{site}.tif"

    @property
    def summary(self) -> Path:
        """JSON: what the report reads."""
        return self.workspace.round(self.round) / "susceptibility.json"
