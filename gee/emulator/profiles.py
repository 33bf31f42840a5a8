"""What a computation cost, for `ee.profilePrinting()` and `ee.data.profiling()`.

The client asks for a profile with a header, gets an id in another, and reads ids with
`Profile.getProfiles`. Here an id holds all that there is to say, so that any process can read it.
The seconds are those that the meter counts (see `quota`), of the request as a whole, without the
time it waited: unlike Earth Engine's, a profile has one entry for a request, not one for every
function.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from .errors import EngineError

__all__ = ["ASKED", "TOLD", "profile_id", "read_profiles", "table"]

ASKED, TOLD = "x-earth-engine-computation-profiling", "X-Earth-Engine-Computation-Profile"


def profile_id(description: str, seconds: float) -> str:
    """Return the id of a profile.

    Examples
    --------
    >>> read_profiles([profile_id("value:compute", 0.25)])
    [{'description': 'value:compute', 'count': 1, 'eecuSeconds': 0.25}]
    """
    text = json.dumps([description, round(seconds, 6)])
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_profiles(ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of profiles, the most costly first; equal descriptions are summed.

    Raises
    ------
    EngineError
        An id is none that the emulator gave.
    """
    found: dict[str, dict[str, Any]] = {}
    for identity in ids:
        try:
            description, seconds = json.loads(base64.urlsafe_b64decode(identity))
            seconds = float(seconds)
        except (binascii.Error, ValueError, TypeError):
            raise EngineError(f"Profile '{str(identity)[:80]}' not found.") from None
        empty = {"description": str(description), "count": 0, "eecuSeconds": 0.0}
        entry = found.setdefault(str(description), empty)
        entry["count"] += 1
        entry["eecuSeconds"] += seconds
    return sorted(found.values(), key=lambda entry: -entry["eecuSeconds"])


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Return entries as lines of text.

    Examples
    --------
    >>> print(table([{"description": "value:compute", "count": 2, "eecuSeconds": 0.5}]), end="")
     EECU·s PeakMem  Count  Description
      0.500       -      2  value:compute
    """
    lines = [" EECU·s PeakMem  Count  Description"]
    for entry in entries:
        seconds, count = entry["eecuSeconds"], entry["count"]
        lines.append(f"{seconds:7.3f}       - {count:6d}  {entry['description']}")
    return "\n".join(lines) + "\n"
