"""The machines that the RTL tests share, each built when a test first wants it and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rtl import tools
from tests.rtl.cases import Case
from tests.rtl.device import DeviceUnderTest
from tests.rtl.tools import Build

# The generic build has 9-bit operands; the others cover products wider and narrower than most accumulators.
SQUARE = Build(4, 4)
SHAPES = (Build(1, 1), SQUARE, Build(5, 3, 9, 8), Build(3, 8, 16, 16), Build(8, 8))
WIDE = Build(4, 4, wire_bits=64)


class Programs(dict[Build, Path]):
    """Machines by their build."""

    def __missing__(self, build: Build) -> Path:
        self[build] = tools.build("machine", "bench.cpp", build.parameters)
        return self[build]


Probe = Callable[..., DeviceUnderTest]


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Every machine, built when it is asked for."""
    tools.require("verilator")
    return Programs()


@pytest.fixture
def probe(programs: Programs) -> Probe:
    """Run one case on the 4x4 machine, or on another build, and return it with its trace."""

    def run(case: Case, build: Build = SQUARE) -> DeviceUnderTest:
        return DeviceUnderTest(programs[build], build, case)

    return run
