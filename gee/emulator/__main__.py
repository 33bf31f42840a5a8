"""`python -m gee.emulator CATALOG`: the server as a child of another process."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from thawslump.errors import ThawslumpError


def main() -> int:
    """Serve until told to stop; return the exit code."""
    from .server import DEFAULT_PORT, die_with_parent, serve

    parser = argparse.ArgumentParser(prog="python -m gee.emulator")
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--imports", type=Path)
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--deadline", type=float, default=300.0)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache-bytes", type=int, default=256 * 2**20)
    parser.add_argument("--parent", type=int, help="end when this process ends (Linux)")
    options = parser.parse_args()
    if options.parent:
        die_with_parent()
        if os.getppid() != options.parent:
            return 1  # it ended before we could ask to be told
    try:
        serve(
            options.catalog,
            options.host,
            options.port,
            state=options.state,
            token=os.environ.pop("THAWSLUMP_EMULATOR_TOKEN", None),
            workers=options.workers,
            cache_bytes=options.cache_bytes,
            imports=options.imports,
            faults=options.faults,
            deadline=options.deadline,
            concurrency=options.concurrency,
            ready=lambda url: print(f"serving {url}", flush=True),
        )
    except ThawslumpError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
