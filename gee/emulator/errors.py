"""The error that the emulator answers with, worded as Earth Engine words it."""

from __future__ import annotations

from thawslump.errors import BackendError

__all__ = ["EngineError", "LimitError"]


class EngineError(BackendError):
    """A computation that Earth Engine would refuse.

    Parameters
    ----------
    message : str
        What Earth Engine says, without the name of the function.
    status : str
        ``INVALID_ARGUMENT`` (HTTP 400) or ``NOT_FOUND`` (HTTP 404).
    function : str, optional
        Id of the function that refused; the evaluator fills it in once, so that the
        message reads ``Function.name: message``.

    Examples
    --------
    >>> print(EngineError("Division by a band of another image.", function="Image.add"))
    Image.add: Division by a band of another image.
    """

    def __init__(
        self,
        message: str,
        status: str = "INVALID_ARGUMENT",
        *,
        function: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message if function is None else f"{function}: {message}", hint=hint)
        self.status = status
        self.located = function is not None

    def locate(self, function: str) -> None:
        """Put the id of the function before the message, unless one is there."""
        if not self.located:
            self.message = f"{function}: {self.message}"
            self.located = True

    def __str__(self) -> str:
        return self.message


class LimitError(EngineError):
    """A request that took too long or too much memory, in Earth Engine's words alone.

    It says nothing about a value, so no result that is kept between requests may hold it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.located = True
