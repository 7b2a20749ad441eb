"""The entry point of the command: small, so that Ctrl-C is heard while everything else is being imported."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process."""
    try:
        from accelsim.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("accel-sim: interrupted\n")
        sys.exit(130)  # ExitCode.INTERRUPTED, which is not imported yet
    run()
