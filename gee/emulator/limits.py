"""What one request may ask for, in the sizes and words of Earth Engine."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import EngineError

__all__ = ["RequestLimits"]


@dataclass(frozen=True)
class RequestLimits:
    """Bounds on requests; the defaults are the documented ones of `image:computePixels`.

    Parameters
    ----------
    request_bytes : int
        Most bytes that the pixels of one answer may have before they are encoded.
    side : int
        Most pixels in a row or column of one answer.
    bands : int
    export_pixels : int
        Most pixels of an export whose caller names no `maxPixels`.
    body_bytes : int
        Largest request that is read.
    concurrency : int
        Computations that one server process runs at a time; the others wait.
    deadline : float
        Seconds that an interactive request may take (five minutes: guides/usage).

    Examples
    --------
    >>> RequestLimits().check_pixels(256, 256, [("B4", 2)])
    >>> RequestLimits().check_pixels(8192, 8192, [("B4", 2)])
    Traceback (most recent call last):
    ...
    gee.emulator.errors.EngineError: Total request size (134217728 bytes) must be less than or \
equal to 50331648 bytes.
    """

    request_bytes: int = 48 * 2**20
    side: int = 32768
    bands: int = 1024
    export_pixels: int = 100_000_000
    body_bytes: int = 10 * 2**20
    concurrency: int = 4
    deadline: float = 300.0

    def check_pixels(self, width: int, height: int, bands: list[tuple[str, int]]) -> None:
        """Refuse an answer that is too large.

        Parameters
        ----------
        width, height : int
            Pixels.
        bands : list of (name, bytes per pixel)

        Raises
        ------
        EngineError
            Worded as by Earth Engine.
        """
        if width > self.side or height > self.side:
            raise EngineError(
                f"Pixel grid dimensions ({width}x{height}) must be less than or equal to "
                f"{self.side}."
            )
        if len(bands) > self.bands:
            raise EngineError(
                f"Number of bands ({len(bands)}) must be less than or equal to {self.bands}."
            )
        total = width * height * sum(size for _, size in bands)
        if total > self.request_bytes:
            raise EngineError(
                f"Total request size ({total} bytes) must be less than or equal to "
                f"{self.request_bytes} bytes."
            )
