"""thawslump: from an area and a date to a reviewed inventory of retrogressive thaw slumps."""

__version__ = "0.1.0"
