"""An Earth Engine endpoint on the user's own machine, over a local catalogue of assets.

It knows nothing of thaw slumps and imports nothing else of `gee`.
"""
