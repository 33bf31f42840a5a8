"""A survey kept beside the tiles, so that an export goes on with the images it began with.

Between two starts of the same command the service may have taken in more images. Tiles that are
done hold the earlier ones; those that are left must too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gee.exports.survey import Picture, Survey
from gee.scripts.settled import Orbit, Settled
from thawslump.files import write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["from_json", "load", "save", "to_json"]


def _adapters() -> tuple[TypeAdapter[Settled], TypeAdapter[Picture], TypeAdapter[Orbit]]:
    from pydantic import TypeAdapter

    return TypeAdapter(Settled), TypeAdapter(Picture), TypeAdapter(Orbit)


def to_json(found: Survey) -> dict[str, Any]:
    """Return a survey as JSON values."""
    settled, picture, orbit = _adapters()
    return {
        "settled": settled.dump_python(found.settled, mode="json"),
        "pictures": [
            [key, side, [picture.dump_python(one, mode="json") for one in group]]
            for (key, side), group in found.pictures.items()
        ],
        "other_orbits": [orbit.dump_python(one, mode="json") for one in found.other_orbits],
        "landcover": found.landcover,
    }


def from_json(values: dict[str, Any]) -> Survey:
    """Return the survey that `to_json` gave; it took no request.

    Raises
    ------
    ValueError, KeyError, TypeError
        The values are not those of a survey.
    """
    settled, picture, orbit = _adapters()
    return Survey(
        pictures={
            (key, side): tuple(picture.validate_python(one) for one in group)
            for key, side, group in values["pictures"]
        },
        settled=settled.validate_python(values["settled"]),
        requests=0,
        other_orbits=tuple(orbit.validate_python(one) for one in values["other_orbits"]),
        landcover=values["landcover"],
    )


def save(path: Path, digest: str, found: Survey) -> None:
    """Keep a survey with the digest of the settings that it was made for."""
    write_json(path, {"settings": digest, "survey": to_json(found)})


def load(path: Path, digest: str) -> Survey | None:
    """Return the survey of the same settings, or None; a damaged file counts as none."""
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return from_json(kept["survey"]) if kept["settings"] == digest else None
    except (ValueError, KeyError, TypeError):
        return None
