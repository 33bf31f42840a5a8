"""Settings of the Earth Engine part: which endpoint, how tiles are fetched, the made-up valley."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["BackendConfig", "ExportConfig", "ValleyConfig"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BackendConfig(_Section):
    """Where Earth Engine expressions are computed.

    Examples
    --------
    >>> BackendConfig().kind
    'emulator'
    >>> BackendConfig(kind="earthengine", project="my-project").url is None
    True
    """

    kind: Literal["emulator", "earthengine"] = Field(
        "emulator",
        description="`emulator` is the endpoint on this machine; `earthengine` the live service.",
    )
    url: str | None = Field(
        None,
        description="Address of the endpoint. Empty with `emulator`: the workspace's own emulator "
        "on the folder catalog/ is started for the time of the export. Empty with `earthengine`: "
        "the standard endpoint (https://earthengine-highvolume.googleapis.com is the other one).",
    )
    project: str | None = Field(
        None,
        description="Cloud project that pays for the computation. The live service needs one; "
        "the emulator takes any.",
    )
    timeout: float = Field(
        300.0, gt=0, le=3600, description="Seconds after which one request counts as lost."
    )

    @model_validator(mode="after")
    def _check(self) -> BackendConfig:
        if self.kind == "earthengine" and not self.project:
            raise ValueError(
                "backend.project is empty; the live service needs the id of a Cloud project "
                "that is registered for Earth Engine"
            )
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"backend.url is {self.url!r}; expected an address such as http://127.0.0.1:8765"
            )
        return self


class ExportConfig(_Section):
    """How tiles are fetched. None of these settings changes what the files hold."""

    method: Literal["pixels", "drive", "cloud_storage"] = Field(
        "pixels",
        description="`pixels` fetches tile by tile; `drive` and `cloud_storage` start batch tasks "
        "for large areas (`thawslump export submit`).",
    )
    destination: str = Field(
        "thawslump",
        min_length=1,
        description="Folder in Drive or bucket that batch tasks write to.",
    )
    eecu_budget: float | None = Field(
        None,
        gt=0,
        description="EECU-seconds after which `thawslump export status` cancels the batch tasks "
        "that still run; none is no limit.",
    )
    tile: int = Field(256, ge=16, le=4096, description="Largest side of one request in pixels.")
    smallest_tile: int = Field(
        32,
        ge=8,
        le=4096,
        description="A request that is too much for the service is halved down to this side.",
    )
    workers: int = Field(4, ge=1, le=40, description="Requests under way at the same time.")
    retries: int = Field(
        6, ge=0, le=20, description="Tries after a passing fault (busy, connection lost) of a tile."
    )
    backoff: float = Field(
        1.0, ge=0, le=60, description="Seconds before the second try; doubled for each further one."
    )


class ValleyConfig(_Section):
    """The made-up permafrost valley that stands in for a real place in the demo."""

    seed: int = Field(1, ge=0, description="Equal seeds give equal valleys.")
    rows: int = Field(512, ge=128, le=16384, description="Height in pixels of 10 m.")
    cols: int = Field(768, ge=128, le=16384, description="Width in pixels of 10 m.")
