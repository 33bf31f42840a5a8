"""Earth Engine side: scripts, exports, the emulator, the made-up valley; nothing needs torch."""

from gee.lazy import open_factors, open_stack

__all__ = ["open_factors", "open_stack"]
