"""`python -m accelsim` is `accel-sim`."""

from accelsim.entry import main

main()
