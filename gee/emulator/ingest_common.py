"""What all readers of files share: names, dates, and the ledger by which they go on."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError
from thawslump.files import storage_errors

from .catalog import Catalog, normalize_id

__all__ = [
    "Ledger",
    "Progress",
    "asset_part",
    "band_name",
    "check_above",
    "dated",
    "make_collection",
    "masked_where",
    "milliseconds",
    "quiet",
]

LEDGER = ".ingested.jsonl"
# Called with the number of finished images, of all images, and the id of the last one.
Progress = Callable[[int, int, str], None]


def quiet(done: int, total: int, asset_id: str) -> None:
    """Tell nobody."""


def milliseconds(moment: str | datetime.date) -> int:
    """Return a date or time as milliseconds since 1970; UTC where no zone is given.

    Examples
    --------
    >>> milliseconds("1970-01-02")
    86400000
    """
    if isinstance(moment, str):
        try:
            moment = datetime.datetime.fromisoformat(moment)
        except ValueError:
            raise DataError(
                f"{moment!r} is no date.", hint="Write it as 2023-05-16 or 2023-05-16T10:30:00Z."
            ) from None
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.combine(moment, datetime.time())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


_DIGITS = {"Y": 4, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2, "y": 2}


def dated(name: str, pattern: str) -> datetime.datetime:
    """Return the date that a name holds.

    Parameters
    ----------
    name : str
    pattern : str
        As `strftime` writes it, with %Y %y %m %d %j %H %M %S and other characters as they are.
        It may stand anywhere in the name.

    Raises
    ------
    DataError
        The pattern is not known or does not fit.

    Examples
    --------
    >>> dated("S2_20230516T101031_B4", "_%Y%m%dT")
    datetime.datetime(2023, 5, 16, 0, 0)
    """
    parts, codes = re.split(r"%(.)", pattern), _DIGITS
    unknown = [code for code in parts[1::2] if code not in codes]
    if unknown or len(parts) < 2:
        what = f"%{unknown[0]} is not known" if unknown else "it has none"
        raise DataError(
            f"The date pattern {pattern!r} cannot be used: {what}.",
            hint="Write it with %Y %y %m %d %j %H %M %S, for example --dates %Y%m%d.",
        )
    expression = "".join(
        rf"\d{{{codes[part]}}}" if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )
    for found in re.finditer(f"(?=({expression}))", name):
        try:
            return datetime.datetime.strptime(found[1], pattern)
        except ValueError:
            continue
    raise DataError(
        f"{name!r} holds no date of the form {pattern!r}.",
        hint="Change the pattern (--dates), or move the file elsewhere.",
    )


def band_name(text: str) -> str:
    """Return a text as the name of a band.

    Examples
    --------
    >>> band_name("near ir (842 nm)")
    'near_ir__842_nm_'
    """
    kept = "".join(c if c.isalnum() or c in "_-" else "_" for c in text)
    return kept or "b"


def asset_part(text: str) -> str:
    """Return a text as the last part of an asset id."""
    kept = re.sub(r"[^A-Za-z0-9_\-]", "_", text).lstrip("-")
    return kept[:200] or "image"


def check_above(catalog: Catalog, asset_id: str) -> None:
    """Refuse an image inside an image, which no listing would show.

    Raises
    ------
    DataError
    """
    parts = normalize_id(asset_id).split("/")
    for count in range(1, len(parts)):
        above = catalog.get("/".join(parts[:count]))
        if above is not None and above.type in ("IMAGE", "TABLE"):
            raise DataError(f"{above.id} is a {above.type}: nothing can be put below it.")


def make_collection(
    catalog: Catalog, name: str, properties: Mapping[str, Any] | None = None
) -> None:
    """Make an image collection, unless there is one."""
    check_above(catalog, name)
    known = catalog.get(name)
    if known is None or known.type != "IMAGE_COLLECTION":
        catalog.put_collection(name, properties)


# --------------------------------------------------------------------------------------------
# going on where it stopped


class Ledger:
    """What was ingested from which files, so that a second start skips what is there.

    Parameters
    ----------
    catalog : Catalog
        The notes lie in its folder.

    Examples
    --------
    >>> import tempfile
    >>> catalog = Catalog(Path(tempfile.mkdtemp()), writable=True)
    >>> ledger = Ledger(catalog)
    >>> ledger.note("a", "digest")
    >>> ledger.has("a", "digest"), Ledger(catalog).known
    (False, {'a': 'digest'})
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._path = catalog.root / LEDGER
        self.known: dict[str, str] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self.known[entry["id"]] = entry["digest"]
                except (ValueError, KeyError, TypeError):
                    continue  # the last line of a process that was killed

    @staticmethod
    def digest(paths: Sequence[Path], *settings: Any) -> str:
        """Return a digest of files, by their sizes and times, and of settings."""
        facts = [
            (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns)
            for path in paths
            if path.exists()
        ]
        text = json.dumps([facts, settings], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def has(self, asset_id: str, digest: str) -> bool:
        """Tell whether an asset of this digest is whole in the catalogue."""
        return self.known.get(asset_id) == digest and self._catalog.get(asset_id) is not None

    def note(self, asset_id: str, digest: str) -> None:
        """Note that an asset is whole."""
        self.known[asset_id] = digest
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"id": asset_id, "digest": digest}) + "\n")


def masked_where(array: Any, values: Sequence[float]) -> Any:
    """Return a mask that is False where an array holds one of some values or NaN."""
    mask = np.ones(array.shape, bool)
    for value in values:
        mask &= ~np.isnan(array) if value != value else array != value
    if array.dtype.kind == "f":
        mask &= ~np.isnan(array)
    return mask
