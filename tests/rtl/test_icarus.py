"""The same RTL under Icarus Verilog, a second simulator: a few cases, also where Verilator is missing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.rtl import drawing, tools
from tests.rtl.cases import Case, decode, encode
from tests.rtl.comparison import differences, value_differences
from tests.rtl.tools import Build

BUILD = Build(3, 2)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench in SystemVerilog, compiled by Icarus."""
    if shutil.which("iverilog") is None:
        pytest.skip("RTL under Icarus not run: install iverilog (apt-get install iverilog)")
    target = tmp_path_factory.mktemp("icarus") / "bench"
    values = [f"-Pbench.{name}={value}" for name, value in BUILD.parameters.items()]
    files = sorted(tools.FOLDER.glob("*.sv"))
    done = subprocess.run(
        ["iverilog", "-g2012", "-s", "bench", *values, "-I", tools.FOLDER, "-o", target, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_icarus_agrees_with_the_recurrence_and_big_integers(program: Path, tmp_path: Path) -> None:
    """Values, totals, classes and events of random GEMMs; sums and outputs of as many with the requantiser."""
    random = np.random.default_rng(11)
    cases: list[Case] = []
    for index in range(48):
        case = drawing.gemm(random, BUILD, drawing.DATAFLOWS[index % 3], gather=index % 4 == 0)
        if index % 2:
            columns = drawing.requantiser(random, BUILD, case.w.shape[0], fixed_point=index % 4 == 1)
            case = replace(case, requantiser=columns, acc_banks=3, acc_rows=63)
        cases.append(replace(case, x=case.x[:12], weights_at=(), operands_at=()))
    words = np.frombuffer(b"".join(encode(case, BUILD) for case in cases), "<u4")
    source, target = tmp_path / "in.hex", tmp_path / "out.hex"
    source.write_text("\n".join(f"{word:x}" for word in words.tolist()), "utf-8")
    subprocess.run(["vvp", program, f"+in={source}", f"+out={target}", f"+count={len(words)}"], check=True, timeout=100)
    answers = np.array([int(line, 16) for line in target.read_text("utf-8").split()], np.uint64).view(np.int64)
    for case in cases:
        answer, used = decode(answers, case, BUILD)
        answers = answers[used:]
        # The recurrence of the bare array knows nothing of a bank that the requantiser still reads.
        assert (value_differences(case, answer) if case.requantiser else differences(case, BUILD, answer)) == []
    assert answers.size == 0
