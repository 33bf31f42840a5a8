"""Server-side scripts: a Site in, a lazy Earth Engine object out.

Nothing here asks the service for a value. The same objects are computed by the live service
and by the emulator.
"""
