"""Settings of the susceptibility map (loads without numpy)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["HE2024", "FoldKind", "ModelName", "SusceptibilityConfig"]

ModelName = Literal[
    "logistic",
    "forest",
    "forest_small",
    "boosting",
    "svr",
    "svc",
    "mlp",
    "cnn",
    "cnn_small",
    "bagging",
    "stacking",
    "blending",
    "spatial_average",
]
FoldKind = Literal["random", "blocked", "buffered", "regions", "nearest"]
HE2024: tuple[ModelName, ...] = ("cnn", "mlp", "svr", "forest", "blending", "stacking")
"""The six models of He et al. (2024), in the order of their figures 11 to 14."""


class SusceptibilityConfig(BaseModel):
    """How the samples are drawn, the models fitted and checked, and the map classed.

    Examples
    --------
    >>> SusceptibilityConfig().block_size
    1000.0
    >>> SusceptibilityConfig(models="he2024").models
    ('cnn', 'mlp', 'svr', 'forest', 'blending', 'stacking')
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: tuple[str, ...] = Field(
        ("elevation", "slope", "aspect", "NDVI"),
        description="Bands of tiles/<site>/factors.tif to learn from; an empty list takes all that "
        "every site has, but coordinates, identifiers and bands about other bands. Aspect enters "
        "as its sine (east) and cosine (north).",
    )
    # Samples
    positives: Literal["cells", "centroid", "one"] = Field(
        "cells",
        description="What stands for a slump: its cells, the cell below its centroid, or one of "
        "its cells at random.",
    )
    cells_per_slump: int = Field(
        4, ge=1, description="Of cells: at most this many for one slump, large or small."
    )
    negatives: Literal["random", "buffered", "similar"] = Field(
        "buffered",
        description="Where the others come from: anywhere outside slumps, beyond a buffer around "
        "them, or beyond it and from ground like that of the slumps.",
    )
    negatives_per_positive: float = Field(
        1.0, gt=0, description="Cells without a slump for each cell with one."
    )
    buffer: float = Field(
        90.0, ge=0, description="Metres around every slump where no negative is drawn."
    )
    nodata_check: bool = Field(
        True,
        description="Refuse factors with a number such as -9999 that seems to stand for missing "
        "values; false where it is real.",
    )
    # Selection
    vif: float | None = Field(
        10.0,
        gt=1,
        description="Drop the factor with the largest variance inflation while one exceeds this; "
        "null keeps all.",
    )
    pearson: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Drop the less informative of two factors that correlate above this "
        "(Zhang et al. 2023: 0.7); null keeps all.",
    )
    chimerge: bool = Field(
        False,
        description="Learn from the ChiMerge intervals of numbers instead of the numbers (Zhang et "
        "al. 2023).",
    )
    chimerge_intervals: int = Field(
        8, ge=2, le=64, description="ChiMerge: intervals of a factor at most."
    )
    chimerge_alpha: float = Field(
        0.05, gt=0, lt=1, description="ChiMerge: neighbours that differ less are merged."
    )
    # Models
    models: tuple[ModelName, ...] = Field(
        ("logistic", "forest"),
        min_length=1,
        description="Models to fit and to compare; he2024 for the six of He et al. (2024).",
    )
    map_model: ModelName | Literal["best"] = Field(
        "best", description="Model that draws the map; best: highest AUC over spatial folds."
    )
    side_by_side: bool = Field(
        False, description="Draw the maps of all models, not only of the one that is chosen."
    )
    trees: int = Field(100, ge=1, description="Trees of the random forest.")
    depth: int = Field(8, ge=1, description="Greatest depth of a tree.")
    bagged: Literal[
        "svr", "svc", "logistic", "forest", "forest_small", "boosting", "mlp", "cnn", "cnn_small"
    ] = Field("svr", description="Model that bagging repeats on balanced draws of the samples.")
    bases: tuple[ModelName, ...] = Field(
        ("cnn", "svr", "mlp"), min_length=1, description="Models below stacking and blending."
    )
    upper: Literal["forest", "pooling", "logistic"] = Field(
        "forest", description="Model above them; the paper has a forest."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks and support vectors compute."
    )
    # Validation
    validation: tuple[FoldKind, ...] = Field(
        ("random", "blocked"),
        min_length=2,
        description="Kinds of folds: random and at least one that keeps ground apart.",
    )
    block_size: float = Field(
        1000.0,
        gt=0,
        description="Edge in metres of the square blocks of "
        "the spatial folds; halved where fewer than two blocks would hold slumps.",
    )
    block_shape: Literal["square", "kmeans"] = Field(
        "square",
        description="Blocks of the spatial folds: squares of block_size, or as many clusters of "
        "the places as folds (k-means), as in much of the literature.",
    )
    folds: int = Field(5, ge=2, description="Folds of the cross-validation, random and spatial.")
    repetitions: int = Field(
        1, ge=1, le=1000, description="Times that the folds are drawn anew and all models refitted."
    )
    fold_buffer: float = Field(
        500.0,
        ge=0,
        description="Of buffered folds: metres around the test ground that is not learned from.",
    )
    resamples: int = Field(
        1000, ge=100, description="Bootstrap draws of whole blocks behind each interval."
    )
    importance: int = Field(
        5, ge=0, le=100, description="Permutations of each factor behind its importance; 0: none."
    )
    # Map
    applicability: bool = Field(
        True, description="Mark the ground unlike anything the models learned from."
    )
    map_part: int = Field(
        1536,
        ge=16,
        description="Edge in cells of the parts of a large map: workers share them, and a part "
        "that is drawn is not lost when the work stops.",
    )
    classes: int = Field(5, ge=2, le=9, description="Classes of the map, by natural breaks.")
    deformation: str | None = Field(
        None,
        description="Table of deformation points (GeoParquet, GeoPackage, or CSV with lon, lat and "
        "velocity in mm/yr), relative to the workspace: rates inside each class.",
    )
    seed: int = Field(0, ge=0, description="Seed of the samples, the folds and the models.")

    @field_validator("models", mode="before")
    @classmethod
    def _named_set(cls, value: Any) -> Any:
        return HE2024 if value == "he2024" else value

    @model_validator(mode="after")
    def _some_of_each(self) -> SusceptibilityConfig:
        if "random" not in self.validation or set(self.validation) == {"random"}:
            raise ValueError(
                f"validation is {', '.join(self.validation)}; expected random and at least one of "
                "blocked, buffered, regions, nearest: the gap between them is what is reported."
            )
        for key in ("models", "bases", "validation"):
            given = getattr(self, key)
            if len(set(given)) < len(given):
                raise ValueError(f"{key} is {', '.join(given)}; expected each once.")
        above = [name for name in self.bases if name in ("stacking", "blending")]
        if above:
            raise ValueError(
                f"bases is {', '.join(self.bases)}; {above[0]} cannot lie below stacking and "
                "blending. Name single models."
            )
        if self.map_model != "best" and self.map_model not in self.models:
            raise ValueError(
                f'map_model is "{self.map_model}", which is not among the models '
                f"({', '.join(self.models)}). Add it to models, or set map_model: best."
            )
        return self
