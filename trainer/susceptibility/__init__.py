"""Where the next slumps are likely: samples, models, honest validation, maps."""
