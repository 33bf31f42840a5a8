"""Settings of the Earth Engine part: which endpoint, how tiles are fetched, the made-up valley."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["HIGH_VOLUME", "STANDARD", "BackendConfig", "ExportConfig", "Purpose", "ValleyConfig"]

STANDARD = "https://earthengine.googleapis.com"
"""The endpoint of the live service that keeps intermediate results: for computed pixels."""
HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
"""The endpoint for many small requests, which keeps little: for pixels that lie there stored."""
Purpose = Literal["computed", "stored"]
"""What a request reads: `gee.exports.purpose` tells which it is."""


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
        "as `endpoint` says. An address given here is used for everything.",
    )
    endpoint: Literal["auto", "standard", "high_volume"] = Field(
        "auto",
        description="Endpoint of the live service. `auto`: high volume for pixels that are stored, "
        "standard for computed ones, whose intermediate results only the standard one keeps.",
    )
    project: str | None = Field(
        None,
        description="Cloud project that pays for the computation. The live service needs one; "
        "the emulator takes any.",
    )
    service_account_key: Path | None = Field(
        None,
        description="Key file (JSON) of a service account for the live service, absolute or with "
        "~. Empty: GOOGLE_APPLICATION_CREDENTIALS, else what `earthengine authenticate` stored.",
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
        key = self.service_account_key
        if key is not None and not key.expanduser().is_absolute():
            raise ValueError(
                f"backend.service_account_key is {str(key)!r}; expected an absolute path, or one "
                "that begins with ~, so that it means the same file wherever a command is started"
            )
        return self

    def address(self, purpose: Purpose = "computed") -> str | None:
        """Return the address that requests of a purpose go to; None for the workspace's emulator.

        Examples
        --------
        >>> live = BackendConfig(kind="earthengine", project="p")
        >>> live.address(), live.address("stored")
        ('https://earthengine.googleapis.com', 'https://earthengine-highvolume.googleapis.com')
        >>> BackendConfig(url="http://127.0.0.1:8765/").address("stored")
        'http://127.0.0.1:8765'
        """
        if self.url is not None:
            return self.url.rstrip("/")
        if self.kind == "emulator":
            return None
        stored = self.endpoint == "auto" and purpose == "stored"
        return HIGH_VOLUME if stored or self.endpoint == "high_volume" else STANDARD


class ExportConfig(_Section):
    """How tiles are fetched. None of these settings changes the pixels that the files hold."""

    method: Literal["pixels", "drive", "cloud_storage", "asset"] = Field(
        "pixels",
        description="`pixels` fetches tile by tile; `drive`, `cloud_storage` and `asset` start "
        "batch tasks for large areas (`thawslump export submit`).",
    )
    destination: str = Field(
        "thawslump",
        min_length=1,
        description="What batch tasks write to: a folder in Drive, a bucket, or a folder of assets "
        "(projects/my-project/assets/thawslump).",
    )
    priority: int = Field(
        100,
        ge=0,
        le=9999,
        description="Of batch tasks within the project; higher ones start first.",
    )
    eecu_budget: float | None = Field(
        None,
        gt=0,
        description="EECU-seconds that all exports of the workspace may cost together: no request "
        "is begun beyond, and `export status` cancels batch tasks. None is no limit.",
    )
    meter: bool = Field(
        True,
        description="Ask the service what each request cost (its profiler). Without it costs are "
        "estimated.",
    )
    tile: int = Field(256, ge=16, le=4096, description="Largest side of one request in pixels.")
    smallest_tile: int = Field(
        32,
        ge=8,
        le=4096,
        description="A request that is too much for the service is cut to half the side, at most "
        "three times and not below this side.",
    )
    workers: int = Field(
        8,
        ge=1,
        le=100,
        description="Requests under way at the same time, at most; fewer while the service says "
        "that it is too many. Earth Engine allows a project 40 by default.",
    )
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
