"""Settings of the susceptibility map (loads without numpy)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SusceptibilityConfig"]


class SusceptibilityConfig(BaseModel):
    """How the samples are drawn, the models fitted and checked, and the map classed.

    Examples
    --------
    >>> SusceptibilityConfig().block_size
    1000.0
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: tuple[str, ...] = Field(
        ("elevation", "slope", "aspect", "NDVI"),
        min_length=1,
        description="Bands of tiles/<site>/factors.tif to learn from. "
        "Aspect enters as its sine (east) and cosine (north).",
    )
    models: tuple[Literal["logistic", "forest"], ...] = Field(
        ("logistic", "forest"), min_length=1, description="Models to fit and to compare."
    )
    map_model: Literal["best", "logistic", "forest"] = Field(
        "best", description="Model that draws the map; best: highest AUC over spatial folds."
    )
    cells_per_slump: int = Field(
        4, ge=1, description="At most this many cells stand for one slump, large or small."
    )
    negatives_per_positive: float = Field(
        1.0, gt=0, description="Random cells without a slump for each cell with one."
    )
    buffer: float = Field(
        90.0, ge=0, description="Metres around every slump where no negative is drawn."
    )
    block_size: float = Field(
        1000.0,
        gt=0,
        description="Edge in metres of the square blocks of "
        "the spatial folds; halved where fewer than two blocks would hold slumps.",
    )
    folds: int = Field(5, ge=2, description="Folds of the cross-validation, random and spatial.")
    resamples: int = Field(
        1000, ge=100, description="Bootstrap draws of whole blocks behind each interval."
    )
    trees: int = Field(100, ge=1, description="Trees of the random forest.")
    depth: int = Field(8, ge=1, description="Greatest depth of a tree.")
    classes: int = Field(5, ge=2, le=9, description="Classes of the map, by natural breaks.")
    seed: int = Field(0, ge=0, description="Seed of the samples, the folds and the forest.")
