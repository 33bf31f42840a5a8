"""`python -m gee.emulator.capture.author`: writes the kit and its documentation anew.

The requests are written with the client library, and stored as the graphs that it sends. Run
this after a change to a rule or a request; a test compares the stored kit with what this makes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["build", "main", "text"]


@contextmanager
def _offline() -> Iterator[None]:
    """Let the client make graphs: it needs the list of functions, and asks no one else."""
    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials

    from ..transport import Transport

    nothing = ee.deprecation.DeprecatedAsset("-", None, None, None)
    ee.deprecation.deprecated_assets = {"-": nothing}
    with tempfile.TemporaryDirectory() as folder:
        transport = Transport(folder)
        ee.Initialize(
            credentials=AnonymousCredentials(), project="local-project", http_transport=transport
        )
        try:
            yield
        finally:
            ee.Reset()
            transport.close()


def build() -> dict[str, Any]:
    """Return the kit: rules, requests and the assets that requests need."""
    with _offline():
        from . import _author_pixels, _author_regions, _author_values
        from ._author import Book

        book = Book()
        for module in (_author_values, _author_pixels, _author_regions):
            module.write(book)
    return {"rules": book.rules, "assets": book.assets, "requests": book.requests}


def text(document: dict[str, Any]) -> str:
    """Return the document as JSON with one line for each rule and request."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
            parts.append(f'"{key}": [\n{lines}\n]')
        else:
            parts.append(f'"{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the kit beside this module, and its page beside the documentation."""
    from thawslump.files import write_text

    from .kit import PATH, Kit
    from .page import page

    made = build()
    write_text(PATH, text(made))
    docs = Path(__file__).parents[3] / "docs"
    if docs.is_dir():
        write_text(docs / "emulator-undetermined.md", page(Kit.of(made)))
    sys.stdout.write(f"{len(made['requests'])} requests for {len(made['rules'])} rules: {PATH}\n")


if __name__ == "__main__":
    main()
