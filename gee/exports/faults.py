"""What went wrong with a request: passing, too much at once, or lasting."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from thawslump.errors import BackendError

__all__ = ["Fault", "asked_to_wait", "classify", "is_rate", "patiently", "words"]

T = TypeVar("T")


class Fault(enum.Enum):
    """What to do after a failed request."""

    PASSING = "wait and ask again"
    TOO_LARGE = "ask for less"
    LASTING = "give up"
    SPENT = "stop until the quota is renewed"


# As Earth Engine words them. The first group comes under several HTTP states, so it is looked
# at before the state: asking again for the same would fail again, and be paid for again.
_TOO_LARGE = (
    "memory limit exceeded",
    "memory capacity exceeded",
    "computation timed out",
    "must be less than or equal to",  # Total request size (... bytes) must be ...
    "request size",
    "too many pixels",
    "computed value is too large",
    "response size exceeds",
    "maximum number of pixels",
)
# A quota of a day or a month comes with the state and the words of one of a minute. The second
# group is what a limit of EECU-time that a project's owner has set says.
_SPENT = ("per day", "per month", "daily", "monthly")
_QUOTAS = ("quota exceeded", "exceeded the custom quota")
_RATE = (
    "too many requests",
    "too many concurrent",
    "rate exceeded",
    "rate limit",
    "quota exceeded",
)
_PASSING = (
    "too many requests",
    "too many concurrent",
    "rate exceeded",
    "rate limit",
    "quota exceeded for quota metric",
    "an internal error has occurred",
    "backend error",
    "service unavailable",
    "temporarily unavailable",
    "deadline exceeded",
)
_PASSING_STATES = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 600.0


def classify(error: BaseException) -> Fault:
    """Tell what an error of the `ee` client calls for.

    Parameters
    ----------
    error : BaseException
        As raised by `ee.data.computePixels` or `getInfo`. The HTTP state is that of the error
        which the client translated.

    Examples
    --------
    >>> classify(ConnectionError("reset by peer"))
    <Fault.PASSING: 'wait and ask again'>
    >>> import ee
    >>> classify(ee.EEException("User memory limit exceeded."))
    <Fault.TOO_LARGE: 'ask for less'>
    >>> classify(ee.EEException("Quota exceeded for quota metric 'x' and limit 'y per month'."))
    <Fault.SPENT: 'stop until the quota is renewed'>
    >>> classify(ee.EEException("Image.select: Band pattern 'B99' did not match any bands."))
    <Fault.LASTING: 'give up'>
    """
    said = str(error).lower()
    if any(phrase in said for phrase in _TOO_LARGE):
        return Fault.TOO_LARGE
    if isinstance(error, ConnectionError | TimeoutError):
        return Fault.PASSING
    if any(p in said for p in _QUOTAS) and any(p in said for p in _SPENT):
        return Fault.SPENT
    import google.auth.exceptions

    if isinstance(error, google.auth.exceptions.TransportError):
        return Fault.PASSING
    if _state_of(error) in _PASSING_STATES or any(phrase in said for phrase in _PASSING):
        return Fault.PASSING
    return Fault.LASTING


def is_rate(error: BaseException) -> bool:
    """Tell whether an error says that too much is asked at a time.

    Examples
    --------
    >>> import ee
    >>> is_rate(ee.EEException("Too many concurrent aggregations."))
    True
    >>> is_rate(ee.EEException("An internal error has occurred"))
    False
    """
    said = str(error).lower()
    return _state_of(error) == 429 or any(phrase in said for phrase in _RATE)


def asked_to_wait(error: BaseException) -> float | None:
    """Return the seconds that the service asks to wait (``Retry-After``), or None.

    Both forms of the header are understood, seconds and a date (RFC 9110, section 10.2.3); of
    more than ten minutes, ten are waited.
    """
    response = getattr(error.__context__, "resp", None)
    said = response.get("retry-after") if isinstance(response, Mapping) else None
    if not said:
        return None
    try:
        seconds = float(said)
    except ValueError:
        import email.utils

        try:
            seconds = email.utils.parsedate_to_datetime(str(said)).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else None


def _state_of(error: BaseException) -> int | None:
    # The client keeps the message only; the error it came from is still known to Python.
    response = getattr(error.__context__, "resp", None)
    state = getattr(response, "status", None)
    return int(state) if state is not None else None


def words(error: BaseException) -> str:
    """Return what the service said, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def patiently(
    ask: Callable[[], T],
    *,
    where: str,
    retries: int,
    backoff: float,
    seed: int = 0,
    sleep: Callable[[float], None] = time.sleep,
    on_retry: Callable[[BaseException], None] | None = None,
) -> T:
    """Ask, and after a passing fault wait and ask again.

    Parameters
    ----------
    ask : callable
        One request.
    where : str
        The backend, for the error's words.
    retries : int
        Further tries after the first.
    backoff : float
        Seconds before the second try, doubled each time up to a minute, and shortened by up to a
        half at random so that many waiting tiles do not return all at once. Where the service
        says how long to wait (``Retry-After``), no less than that.
    seed : int
        Of that randomness.
    on_retry : callable (error), optional
        Told the fault before each wait.

    Raises
    ------
    BackendError
        Every try met a passing fault, or a quota of a day or month is used up.
    Exception
        Any other fault, as it came.
    """
    dice = random.Random(seed)
    for attempt in range(retries + 1):
        try:
            return ask()
        except Exception as error:
            fault = classify(error)
            if fault is Fault.SPENT:
                raise BackendError(
                    f"{where} computes nothing more for now: {words(error)}",
                    hint="Finished tiles are kept: start the same command again when the quota is "
                    "renewed or raised.",
                ) from error
            if fault is not Fault.PASSING:
                raise
            if attempt == retries:
                raise BackendError(
                    f"No answer from {where} after {retries + 1} tries; the last one: "
                    f"{words(error)}",
                    hint="Check that it runs and can be reached, then start the same command "
                    "again: finished tiles are kept.",
                ) from error
            if on_retry is not None:
                on_retry(error)
            wait = min(60.0, backoff * 2**attempt) * (0.5 + 0.5 * dice.random())
            sleep(max(wait, asked_to_wait(error) or 0.0))
    raise AssertionError("not reached")
