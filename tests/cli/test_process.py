"""The command as a process: exit codes, closed pipes, signals, locales, start-up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest

from tests.cli.command import assert_refused, process, process_arguments, process_environment
from tests.tiers import deep, few, few_rows


def test_exit_codes_reach_the_shell(digits: Path, tmp_path: Path) -> None:
    """The codes 0, 2, 3 and 5 leave the process, and results and errors leave by different streams."""
    good = process("check", digits)
    assert (good.code, good.stderr) == (0, "")
    assert good.stdout.startswith("check    exact")
    assert process("check", digits, "--acc-bits", "12").code == 3
    assert_refused(process("run", tmp_path / "none.onnx"), 2, "No such file")
    (tmp_path / "text.onnx").write_text("hello")
    assert_refused(process("run", tmp_path / "text.onnx"), 5, "is not an ONNX model")


@pytest.mark.parametrize(
    ("arguments", "code"),
    few_rows([(["check", "--acc-bits", "12"], 3), (["explain"], 0), (["run"], 0), (["run", "--json"], 0)], 1),
)
def test_a_closed_pipe_ends_silently_with_the_code_of_the_verdict(
    digits: Path, arguments: list[str], code: int
) -> None:
    """When the reader has gone (`| head`), the command ends silently, and its verdict still decides the exit code."""
    running = subprocess.Popen(
        process_arguments(*arguments, digits),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=process_environment({"PYTHONUNBUFFERED": "1"}),
    )
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == b""
    running.stderr.close()
    assert running.wait(60) == code


def test_an_interrupt_ends_with_one_word_and_code_130(tmp_path: Path) -> None:
    """Ctrl-C while a model is being read: one word on stderr, exit code 130, no results."""
    pipe = tmp_path / "model.onnx"
    os.mkfifo(pipe)
    running = subprocess.Popen(
        process_arguments("run", pipe, "-o", tmp_path / "results"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=process_environment({}),
        preexec_fn=_heed_interrupts,
    )
    writer = _open_when_read(pipe)
    time.sleep(0.2)  # from opening the pipe to waiting for its contents
    stdout, stderr = _interrupted(running)
    os.close(writer)
    assert (running.returncode, stdout, stderr) == (130, b"", b"accel-sim: interrupted\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("start", ["-m", "the command"])
def test_an_interrupt_while_importing_is_as_quiet(tmp_path: Path, start: str) -> None:
    """Ctrl-C before the command line itself has been imported ends as quietly as afterwards."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    line = [sys.executable, "-m", "accelsim"] if start == "-m" else [sys.executable, "-c", _console_script()]
    environment = process_environment({"PYTHONPATH": str(tmp_path)})
    done = subprocess.run([*line, "--help"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "accel-sim: interrupted\n")


def _console_script() -> str:
    """Return what the installed command executes."""
    (entry,) = metadata.entry_points(group="console_scripts", name="accel-sim")
    return f"from {entry.module} import {entry.attr}; {entry.attr}()"


def _heed_interrupts() -> None:
    """Undo what a shell does to jobs in the background, which ignore Ctrl-C and hand that on to their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted(running: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Press Ctrl-C, and again after some seconds: a signal just before a blocking read is seen by nobody."""
    for _ in range(12):
        running.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return running.communicate(timeout=5)
    raise AssertionError("the process does not react to Ctrl-C")


def _open_when_read(pipe: Path) -> int:
    """Open a named pipe for writing as soon as somebody reads it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.02)
    raise TimeoutError("the command does not open its model")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("arguments", few([["run"], ["explain"]], 1))
def test_full_disk_behind_stdout(digits: Path, arguments: list[str]) -> None:
    """Results that cannot be written are an error with its own exit code, not a traceback on leaving."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            process_arguments(*arguments, digits), stdout=full, stderr=subprocess.PIPE, env=process_environment({})
        )
    assert done.returncode == 6
    assert done.stderr.startswith(b"accel-sim: cannot write: No space left on device")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("blocks", few(["0", "20"], 1))
def test_files_may_not_grow(digits: Path, blocks: str) -> None:
    """Temporary files that onnxruntime cannot write are told apart from a model that it refuses."""
    line = process_arguments("run", digits, "-q")
    done = subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *line],
        capture_output=True,
        text=True,
        env=process_environment({}),
    )
    assert done.returncode == 6, done
    assert done.stderr.startswith("accel-sim: cannot write temporary files (")


@pytest.mark.deep
def test_a_cache_that_cannot_be_used_is_said_once(tmp_path: Path) -> None:
    """Every run would compile again, which nobody should have to guess."""
    (tmp_path / "file").write_text("not a folder")
    outcome = process("gemm", "3", "3", "3", ACCEL_SIM_CACHE_DIR=str(tmp_path / "file"))
    assert outcome.code == 0
    assert outcome.stderr.startswith("accel-sim: warning: cannot keep compiled kernels and models in ")
    assert outcome.stderr.count("\n") == 1


@deep
def test_a_process_without_streams_exits_by_its_verdict(digits: Path, tmp_path: Path) -> None:
    """A process started without stdout and stderr still does its work and exits by its verdict."""
    command = " ".join(f"'{part}'" for part in process_arguments("run", digits, "-o", tmp_path / "results"))
    assert subprocess.run(["sh", "-c", f"{command} >&- 2>&-"], env=process_environment({})).returncode == 0
    assert (tmp_path / "results" / "result.json").exists()


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"LC_ALL": "C"}, marks=deep),
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=deep),
    ],
    ids=["C", "C without Python's help", "Latin-1"],
)
def test_encodings_that_lack_characters_get_replacements(digits: Path, environment: dict[str, str]) -> None:
    """Encodings that lack the table's characters get replacements, never an error."""
    outcome = process("run", digits, **environment)
    assert outcome.code == 0, outcome
    assert "total" in outcome.stdout
    assert outcome.stderr == ""


@deep
def test_colours_are_for_terminals_without_no_color(digits: Path) -> None:
    """A pipe gets no escape codes; a forced terminal does, but no colours under NO_COLOR."""
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    assert "\x1b" not in process("check", digits, TERM="xterm").stdout
    assert colour.search(process("check", digits, FORCE_COLOR="1", TERM="xterm").stdout)
    assert not colour.search(process("check", digits, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout)


def test_help_imports_no_heavy_package() -> None:
    """--help and mistakes on the command line import none of numpy, numba, onnx and onnxruntime."""
    program = (
        "import sys\n"
        "from accelsim.cli.app import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    heavy = {'numpy', 'numba', 'onnx', 'onnxruntime'}\n"
        "    print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    for arguments in (["--help"], ["run", "--help"], ["run", "--bogus"]):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        assert done.stdout.endswith("heavy: []\n"), done


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["explain", "--help"]])
def test_help_names_the_exit_codes(arguments: list[str]) -> None:
    """The exit codes are documented where they are looked for."""
    outcome = process(*arguments)
    assert outcome.code == 0
    text = " ".join(outcome.stdout.split())
    for words in ("0 ok", "2 usage", "3 mismatch", "4 unsupported", "5 invalid", "6 resource limit", "130 interrupted"):
        assert words in text, words


def test_version_names_everything_that_decides_a_result() -> None:
    """--version names everything that decides a result."""
    outcome = process("--version")
    assert outcome.code == 0
    for name in ("accel-sim", "numpy", "numba", "onnx", "onnxruntime"):
        assert re.search(rf"^{name} \d", outcome.stdout, re.MULTILINE), name
