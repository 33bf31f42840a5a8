"""A made-up permafrost valley: physics first, truth known, labelled made up wherever it goes.

`build` writes a catalogue for the emulator and the truth beside it. The modules are kernels in the
order of what follows from what: `place`, `noise`, `terrain`, `slumps`, `landcover`, `landscape`,
`optical`, `radar`, `scenes`, `climate`, `maps`, `writer`, `ground`, `truth`, `write`.
"""

from gee.valley.place import (
    BOUNDS,
    CRS,
    DEFAULT_SHAPE,
    LABEL,
    OWN,
    POST,
    PRE,
    bounds,
    demo_sites,
    layout,
    site_windows,
)
from gee.valley.write import build

__all__ = [
    "BOUNDS",
    "CRS",
    "DEFAULT_SHAPE",
    "LABEL",
    "OWN",
    "POST",
    "PRE",
    "bounds",
    "build",
    "demo_sites",
    "layout",
    "site_windows",
]
