"""The error that the emulator answers with, worded as Earth Engine words it."""

from __future__ import annotations

from thawslump.errors import BackendError

__all__ = ["EngineError", "LimitError", "MapError", "worded"]


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


class MapError(EngineError):
    """What went wrong when a function was mapped over one element of a collection.

    The function that asked for the elements is named before it, if one did, and not the one
    that mapped (guides/debugging: "Error in map(ID=2):", then the message of the function).
    """

    def __init__(self, index: str | None, problem: EngineError) -> None:
        shown = "null" if index is None else index
        super().__init__(f"Error in map(ID={shown}):\n{problem}", problem.status)


class LimitError(EngineError):
    """A request that took too long or too much memory, in Earth Engine's words alone.

    It says nothing about a value, so no result that is kept between requests may hold it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.located = True


# What libraries raise about values that they cannot work with, by the name of the class: the
# libraries themselves are imported only where they are used.
_WORDS = {
    "OverflowError": "A number is out of range: {}.",
    "FloatingPointError": "A number is out of range: {}.",
    "ZeroDivisionError": "Division by zero.",
    "GEOSException": "Invalid geometry: {}.",
    "TopologicalError": "Invalid geometry: {}.",
    "LinAlgError": "The matrix has no such form: {}.",
    "QhullError": "The points do not span a plane.",
    "CRSError": "The coordinate system cannot be used: {}.",
    "ProjError": "The coordinates cannot be transformed: {}.",
    "UnicodeEncodeError": "A string holds half of a surrogate pair.",
}


def worded(problem: Exception) -> str:
    """Return what to say about an exception that no function foresaw.

    Examples
    --------
    >>> worded(OverflowError("int too large to convert to float"))
    'A number is out of range: int too large to convert to float.'
    """
    for kind in type(problem).__mro__:
        if kind.__name__ in _WORDS:
            said = (str(problem).strip().splitlines() or [""])[0][:200].rstrip(".")
            return _WORDS[kind.__name__].format(said)
    return f"Internal error of the emulator: {type(problem).__name__}: {str(problem)[:500]}"
