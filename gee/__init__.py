"""Earth Engine side: scripts, exports, the emulator and the made-up valley (nothing here needs torch)."""
