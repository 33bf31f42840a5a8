"""Settings of candidates, review and rounds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CandidatesConfig", "ReviewConfig", "RoundsConfig"]


class CandidatesConfig(BaseModel):
    """From probability maps to outlines."""

    model_config = ConfigDict(extra="forbid")

    threshold: float | None = Field(
        None, gt=0, lt=1, description="probability from which on; none takes the ensemble's own"
    )
    minimum_area: float = Field(500.0, ge=0, description="m2; smaller outlines are left out")
    hole_area: float = Field(400.0, ge=0, description="m2; holes up to this size are filled")
    smoothing: float = Field(
        0.0, ge=0, le=5, description="pixels by which outlines may be simplified; 0 keeps edges"
    )
    covered: float = Field(
        0.2, gt=0, le=1, description="share of an outline on known slumps from which it is known"
    )
    contains: float = Field(
        0.5, gt=0, le=1, description="share of a known slump in an outline from which it is known"
    )
    rejected: float = Field(
        0.5, gt=0, le=1, description="share on places rejected before from which it is not asked"
    )


class ReviewConfig(BaseModel):
    """Who decides."""

    model_config = ConfigDict(extra="forbid")

    reviewer: Literal["people", "scripted"] = Field(
        "people",
        description="people (the run waits for them), or scripted: made-up data and trials only",
    )
    error_rate: float = Field(
        0.05, ge=0, le=0.5, description="share of candidates on which the scripted reviewer errs"
    )
    seed: int = Field(0, ge=0, description="which candidates those are")
    ring: int = Field(
        3, ge=0, le=50, description="pixels around an accepted outline that are not learnt from"
    )


class RoundsConfig(BaseModel):
    """When the rounds end."""

    model_config = ConfigDict(extra="forbid")

    maximum: int = Field(
        2, ge=1, le=100, description="rounds at most; they end earlier where one adds no slump"
    )
