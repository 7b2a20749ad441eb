"""A result's machine, fed back, is the machine that ran."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import accelsim
from accelsim import Arch
from accelsim.errors import UsageError
from accelsim.machine.arch import SECTIONS
from accelsim.machine.description import load_arch
from accelsim.simulation.model import Model
from accelsim.timing.gemm import gemm_timing
from tests.conftest import ROOT
from tests.tiers import drawn

_BOOLEANS = ("weight_double_buffer", "drain_overlap", "flush_between_tiles", "keep_activations", "prefetch_weights")

CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "rows": st.integers(1, 24),
    "cols": st.integers(1, 24),
    "dataflow": st.sampled_from(("ws", "os", "is")),
    "acc_bits": st.integers(24, 64),
    "overflow": st.sampled_from(("wrap", "saturate")),
    "zp_mode": st.sampled_from(("fold", "subtract")),
    "weight_zero_point": st.sampled_from(("wide-operand", "row-sum")),
    "weight_load": st.sampled_from(("used", "full")),
    "x_gather_words_per_cycle": st.none() | st.integers(0, 30),
    "acc_rows": st.integers(2, 600),
    "acc_banks": st.integers(1, 3),
    "operand_buffers": st.integers(1, 3),
    "output_buffers": st.integers(1, 3),
    "spm_act": st.integers(64, 400).map(lambda kib: kib * 1024),
    "spm_weight": st.integers(32, 400).map(lambda kib: kib * 1024),
    "requant_mode": st.sampled_from(("f32", "q31")),
    "requant_lanes": st.none() | st.integers(1, 40),
    "requant_latency": st.integers(0, 9),
    "vector_lanes": st.integers(1, 40),
    "vector_latency": st.integers(0, 9),
    "dram_bytes_per_cycle": st.integers(1, 64),
    "dram_latency": st.integers(0, 200),
    "dram_burst": st.sampled_from((16, 64)),
    "dram_channel": st.sampled_from(("shared", "private")),
    "dram_row_bytes": st.sampled_from((0, 1024)),
    "dram_row_miss": st.integers(0, 60),
    "dram_banks": st.integers(1, 9),
    "objective": st.sampled_from(("cycles", "energy", "edp")),
    "clock_ghz": st.floats(0.01, 4.0),
} | {name: st.booleans() for name in _BOOLEANS}
FIXED = {"act_bits", "weight_bits", "sram_read_latency", "acc_write_latency"}


@st.composite
def machines(draw: st.DrawFn) -> Arch:
    """Draw a machine of which every parameter may be off its default."""
    values = {name: draw(choice) for name, choice in CHOICES.items()}
    if values["weight_zero_point"] == "row-sum":
        values["cols"] = max(values["cols"], 2)
    return Arch(**values)


@cache
def digits() -> Model:
    """Load the digits network once."""
    return accelsim.load(ROOT / "models" / "digits_int8.onnx")


def sections_of(machine: Arch) -> dict[str, dict[str, Any]]:
    """Return the machine as result.json writes it, read back."""
    read: dict[str, dict[str, Any]] = json.loads(json.dumps(machine.to_sections()))
    return read


def test_every_parameter_is_drawn_or_has_one_value() -> None:
    """A parameter that is added to the machine is added here, too."""
    assert set(CHOICES) | FIXED == set(Arch.model_fields)
    assert all(sections_of(Arch())[s][key] is not None for s, keys in SECTIONS.items() for key in keys)


@given(machine=machines())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_machine_of_a_result_takes_the_cycles_of_the_result(machine: Arch) -> None:
    """Read from its sections it has the same sections, and the same cycles of a product on the array."""
    sections = sections_of(machine)
    again = Arch.from_sections(sections)
    assert again.to_sections() == machine.to_sections()
    assert again == machine.evolve(requant_lanes=machine.requantiser_lanes)
    assert gemm_timing(37, 29, 33, again) == gemm_timing(37, 29, 33, machine)


@drawn(3, 12, machines())
def test_a_network_takes_the_cycles_of_its_result(machine: Arch) -> None:
    """The digits network, run once more on the machine that its result names."""
    try:
        first = accelsim.run(digits(), machine, values=False)
    except UsageError:  # no plan fits these scratchpads
        return
    again = Arch.from_sections(json.loads(first.to_json())["arch"])
    second = accelsim.run(digits(), again, values=False)
    assert second.cycles == first.cycles
    assert second.energy_pj == first.energy_pj
    assert [layer.cycle_classes for layer in second.layers] == [layer.cycle_classes for layer in first.layers]


def test_sections_of_a_result_are_a_machine_description(tmp_path: Path) -> None:
    """On 4x16 IS a limit of 4 words per cycle is not no limit; written as TOML, the machine comes back whole."""
    machine = Arch(array=(4, 16), dataflow="is")
    lines = []
    for section, values in sections_of(machine).items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    file = tmp_path / "machine.toml"
    file.write_text("\n".join(lines), "utf-8")
    again = load_arch(str(file))
    assert again.x_gather_words_per_cycle is None
    run = [accelsim.run(digits(), arch, values=False).cycles for arch in (machine, again)]
    assert run[0] == run[1]
    assert run[0] < accelsim.run(digits(), machine.evolve(x_gather_words_per_cycle=4), values=False).cycles


def test_no_limit_replaces_the_limit_of_a_description(tmp_path: Path) -> None:
    """0 words per cycle is no limit, so that --set can take a limit back."""
    file = tmp_path / "machine.toml"
    file.write_text("[array]\nx_gather_words_per_cycle = 2\n", "utf-8")
    assert load_arch(str(file)).x_gather_words_per_cycle == 2
    assert load_arch(str(file), ("array.x_gather_words_per_cycle=0",)) == Arch()


@pytest.mark.parametrize(
    "parameters",
    [
        {}, {"array": (4, 16)}, {"array": (4, 16), "dataflow": "os"}, {"array": (16, 4), "x_gather_words_per_cycle": 3},
        {"requant_lanes": 5, "dataflow": "best", "prefetch_weights": True, "dram_row_bytes": 1024},
    ],
)  # fmt: skip
def test_the_machine_of_a_result_is_the_machine_that_ran(parameters: dict[str, Any]) -> None:
    """Fed back, also through JSON, it takes the same cycles: no limit on gathering stays none."""
    arch = Arch(**parameters)
    first = accelsim.run("models:ds-cnn", arch, values=False, check=False)
    again = Arch.from_sections(json.loads(first.to_json())["arch"])
    second = accelsim.run("models:ds-cnn", again, values=False, check=False)
    assert (second.cycles, second.energy_pj, second.arch) == (first.cycles, first.energy_pj, first.arch)


def test_a_machine_with_a_key_of_another_version_is_refused() -> None:
    """In a sentence that names the nearest key."""
    with pytest.raises(UsageError, match=r"unknown key 'array\.rowz'"):
        Arch.from_sections({"array": {"rowz": 4}})
