"""Files that are no models: each is told apart from a model in one sentence."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper

import accelsim
from accelsim.errors import InvalidModelError, ResourceLimitError
from accelsim.graph.load.limits import Limits
from tests.cli.command import assert_refused, command, process_arguments, run_model
from tests.hostile.builders import quantised

NOT_MODELS = {
    "empty": b"",
    "text": b"hello world, this is not a model\n" * 5,
    "random": np.random.default_rng(7).bytes(4096),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "zip": b"PK\x03\x04" + bytes(64),
    "half": quantised().SerializeToString()[:325],
    "one byte short": quantised().SerializeToString()[:-1],
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("data", NOT_MODELS.values(), ids=NOT_MODELS)
def test_foreign_empty_and_cut_files_are_no_onnx(tmp_path: Path, data: bytes) -> None:
    """Foreign, empty and cut files are refused as not being ONNX, whatever protobuf makes of them."""
    assert_refused(run_model(tmp_path, data), 5, "model.onnx", "is not an ONNX model", "give a .onnx file")


@pytest.mark.parametrize(
    "model",
    [ModelProto(ir_version=8), helper.make_model(helper.make_graph([], "graph", [], []), ir_version=8)],
    ids=["no graph", "no nodes"],
)
def test_a_file_without_nodes_is_refused(tmp_path: Path, model: ModelProto) -> None:
    """A file that parses but has no nodes is refused before anything is computed."""
    assert_refused(run_model(tmp_path, model), 5, "has no nodes")


def test_file_that_parses_by_luck(tmp_path: Path) -> None:
    """Bytes that happen to be valid protobuf fields, but not of a model, are not an ONNX model."""
    assert_refused(run_model(tmp_path, ModelProto(producer_name="luck")), 5, "is not an ONNX model")


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """A name without a file is a mistake of the command line, not of a model."""
    assert_refused(command("run", tmp_path / "none.onnx"), 2, "none.onnx", "No such file")


def test_an_empty_name_is_not_the_current_folder() -> None:
    """No name at all is not taken for the folder of the process."""
    assert_refused(command("run", ""), 2, "the name of the model is empty")


def test_a_directory_is_named_as_one(tmp_path: Path) -> None:
    """A directory is named as one."""
    assert_refused(command("run", tmp_path), 2, str(tmp_path), "is a directory")


def test_an_unreadable_path_gives_the_reason_of_the_system(tmp_path: Path) -> None:
    """A path below a regular file cannot be read, and the reason is the operating system's."""
    (tmp_path / "file").write_text("x")
    assert_refused(command("run", tmp_path / "file" / "model.onnx"), 2, "cannot read", "Not a directory")


@pytest.mark.parametrize("name", ["", "a" * 5000, "no\x1b[31m\nfile"], ids=["empty", "long", "escape codes"])
def test_strange_file_names_come_back_short_and_printable(name: str) -> None:
    """Whatever is typed as a file name comes back short and without control characters."""
    assert_refused(command("run", name), 2)


def test_zero_character_in_path() -> None:
    """The Python interface refuses what no operating system can open, like a missing file."""
    with pytest.raises(accelsim.UsageError, match="cannot read"):
        accelsim.load("a\0b.onnx")


def test_endless_file_is_read_up_to_the_limit() -> None:
    """A device that never ends (and says that its size is 0) stops at the limit instead of filling the memory."""
    with pytest.raises(ResourceLimitError, match="larger than the limit of 1,000,000 bytes"):
        accelsim.load("/dev/zero", Limits(file_bytes=1_000_000))


def test_model_through_a_pipe(tmp_path: Path) -> None:
    """A named pipe, as the shell's <(...) makes one, is read like a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(quantised().SerializeToString(),))
    writer.start()
    model = accelsim.load(pipe)
    writer.join()
    assert model.name == "pipe"


@pytest.mark.parametrize(
    ("command_line", "code"),
    [
        (["run", "PIPE"], 2),
        (["run", "MODEL", "--arch", "PIPE"], 2),
        (["run", "MODEL", "--input", "PIPE"], 2),
        (["energy", "--energy-table", "PIPE"], 2),
        (["energy", "--ert", "PIPE"], 2),
    ],
    ids=["model", "machine", "inputs", "energy table", "ERT"],
)
def test_pipe_without_a_writer(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: list[str], code: int
) -> None:
    """A pipe into which nobody writes is given up after some time, whatever it stands for."""
    monkeypatch.setattr("accelsim.files.reading.PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    names = {"PIPE": str(tmp_path / "pipe"), "MODEL": str(digits)}
    reason = "not a regular file" if "--input" in command_line else "nobody writes into this pipe"
    assert_refused(command(*(names.get(part, part) for part in command_line)), code, reason)


def test_pipe_that_is_written_slowly(tmp_path: Path) -> None:
    """Somebody who has the pipe open is waited for, however long the data takes."""
    pipe, data = tmp_path / "pipe", quantised().SerializeToString()
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            for part in (data[:1], data[1:100], data[100:]):
                time.sleep(0.05)
                file.write(part)

    writer = threading.Thread(target=write)
    writer.start()
    assert accelsim.load(pipe).checked.sha256 == hashlib.sha256(data).hexdigest()
    writer.join()


@pytest.mark.parametrize("option", ["--energy-table", "--ert", "--arch"])
def test_endless_text_is_read_up_to_its_limit(digits: Path, option: str) -> None:
    """A device that never ends is refused after a mebibyte, in a process that could not hold much more."""
    line = [*process_arguments("explain" if option == "--arch" else "energy"), option, "/dev/zero"]
    line += [str(digits)] if option == "--arch" else []
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 6000000; exec "$@"', "sh", *line], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done
    assert "larger than 1 MiB" in done.stderr


def test_file_limit_is_exact() -> None:
    """A model of exactly the allowed size loads; one byte less of allowance refuses it."""
    data = quantised().SerializeToString()
    accelsim.load(data, Limits(file_bytes=len(data)))
    with pytest.raises(ResourceLimitError, match="larger than the limit"):
        accelsim.load(data, Limits(file_bytes=len(data) - 1))


def test_a_hopelessly_nested_message_ends_in_the_parser(tmp_path: Path) -> None:
    """Graphs nested 200 deep in attributes end in the parser, not in a recursion of ours."""

    def field(number: int, content: bytes) -> bytes:
        """Encode one length-delimited field."""
        size, prefix = len(content), bytearray()
        while size > 127:
            prefix.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *prefix, size]) + content

    graph = b""
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))  # graph.node.attribute.g
    assert_refused(run_model(tmp_path, field(7, graph)), 5, "is not an ONNX model")


def test_errors_have_the_documented_codes() -> None:
    """The exceptions that scripts catch carry the exit codes of the command line."""
    codes = (accelsim.UsageError, accelsim.UnsupportedModelError, InvalidModelError, ResourceLimitError)
    assert [int(error.exit_code) for error in codes] == [2, 4, 5, 6]
