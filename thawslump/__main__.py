"""`python -m thawslump`."""

from thawslump.cli import main

main()
