"""`python -m accelsim` is `accel-sim`."""

from accelsim.cli import main

main()
