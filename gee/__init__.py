"""Earth Engine side: scripts, exports, the emulator, the made-up valley; nothing needs torch."""
