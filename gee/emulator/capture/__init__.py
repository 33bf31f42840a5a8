"""Requests that would settle what the documentation leaves open, and what compares answers.

Nothing in the emulator was compared with the live service. These requests are small, need no
upload and nearly no assets. Whoever has an account can run them once with
`thawslump emulator capture --project PROJECT`; the recording, put into `tests/golden/`, is then
compared with the emulator by the tests.

- `requests.json`: rules and requests as data; `kit` reads it.
- `recording`: sends the requests and writes the answers to one file.
- `comparing`: which rules agree with a recording, and where others differ.
- `author`: writes `requests.json` anew, from the modules whose names begin with `_author`.
"""

from __future__ import annotations

from .comparing import Finding, compare
from .kit import Kit, Request, Rule
from .recording import Service, record

__all__ = ["Finding", "Kit", "Request", "Rule", "Service", "compare", "record"]
