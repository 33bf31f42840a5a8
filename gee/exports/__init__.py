"""Tiles out of Earth Engine: survey, plan, fetch, verify, write, catalogue.

- `survey` asks once per collection what there is, before any pixel is computed.
- `plan` cuts the pinned grid of each file into requests; `products` says what is in the files.
- `fetch` computes them, keeps every finished tile on disk and puts them together.
- `item` writes the STAC item beside the files.
- `step` is what the pipeline runs; `check` looks without fetching.
"""
