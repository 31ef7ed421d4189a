"""`python -m tvts` is the command `tvts`."""

from tvts.cli import main

main()
