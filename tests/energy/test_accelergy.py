"""Exchange with Accelergy: energies in, counts out; what is not understood is refused in a sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import accelsim
from accelsim.energy.accelergy import ROLES, action_counts
from accelsim.energy.options import EnergyOptions
from accelsim.errors import UsageError
from tests.cli.command import assert_refused, command


def component(name: str, **energies: Any) -> dict[str, Any]:
    """Return one table of an ERT."""
    actions = [{"name": action, "arguments": {}, "energy": energy} for action, energy in energies.items()]
    return {"name": name, "actions": actions}


def written(folder: Path, tables: object, name: str = "ERT.yaml") -> str:
    """Write an energy reference table."""
    path = folder / name
    path.write_text(yaml.safe_dump({"ERT": {"version": 0.4, "tables": tables}}), "utf-8")
    return str(path)


# As Accelergy 0.3 and 0.4 write them: paths with indices, several entries per action with the full activity last.
FULL = [
    {
        "name": "chip.glb[0..3].activation_sram",
        "actions": [
            {"name": "read", "arguments": {"address_delta": 0, "data_delta": 0}, "energy": 0.5},
            {"name": "read", "arguments": {"address_delta": 1, "data_delta": 1}, "energy": 2.0},
            {"name": "write", "arguments": {"address_delta": 1, "data_delta": 1}, "energy": 3.0},
            {"name": "leak", "arguments": None, "energy": 0.1},
        ],
    },
    component("chip.pe[0..255].mac[0]", mac_random=0.5, mac_gated=0.1, idle=0),
    component("chip.noc", transfer=0.7),
    component("dram", read=512, write=1024),
]


def test_energies_replace_the_tables(tmp_path: Path, digits: Path) -> None:
    """Memories read and write at their own energies, a mac pays for both operations, the rest stays Horowitz'."""
    plain = accelsim.run(digits, values=False)
    result = accelsim.run(digits, values=False, energy=EnergyOptions(ert=written(tmp_path, FULL)))
    macs = result.model.macs
    assert result.energy_components_pj["mac"] == pytest.approx(macs * 0.5)
    counts = {(line.component, line.action): 0 for layer in plain.layers for line in layer.charges}
    for layer in plain.layers:
        for line in layer.charges:
            counts[line.component, line.action] += line.count
    reads, writes = counts["activation_sram", "read"], counts["activation_sram", "write"]
    assert result.energy_components_pj["activation_sram"] == pytest.approx(2.0 * reads + 3.0 * writes)
    dram = (512 * counts["dram", "read"] + 1024 * counts["dram", "write"]) / 8
    assert result.energy_components_pj["dram"] == pytest.approx(dram)
    for name in ("weight_sram", "accumulator_sram", "registers", "requantiser", "vector"):
        assert result.energy_components_pj[name] == pytest.approx(plain.energy_components_pj[name])
    units = {unit["name"]: unit for unit in result.energy.units}
    assert units["activation_sram_8_bit_read"]["basis"] == "imported"
    assert "chip.glb[0..3].activation_sram, read" in units["activation_sram_8_bit_read"]["source"]
    assert units["array_int32_add"]["value_pj"] == 0
    assert any("were not used: chip.noc" in note for note in result.energy.detail.notes)


def test_components_can_be_named(tmp_path: Path, digits: Path) -> None:
    """Names that are not ours are mapped, with the bits of their words."""
    ert = written(tmp_path, [component("a.b.Buffer", access=16.0), component("a.ALU", multiply=0.3, add=0.05)])
    names = ("weight_sram=a.b.Buffer:64", "multiplier=a.ALU", "adder=a.ALU")
    result = accelsim.run(digits, values=False, energy=EnergyOptions(ert=ert, ert_map=names))
    assert result.energy_components_pj["mac"] == pytest.approx(result.model.macs * 0.35)
    words = sum(line.count for layer in result.layers for line in layer.charges if line.component == "weight_sram")
    assert result.energy_components_pj["weight_sram"] == pytest.approx(words * 16.0 / 8)


def test_a_table_with_every_role_but_mac_leaves_two_to_ours(tmp_path: Path, digits: Path) -> None:
    """An ERT with every role except mac at once leaves only the requantiser and the vector unit to the table."""
    tables = [component(f"chip.{role}", read=1, write=1, add=1, multiply=1) for role in ROLES if role != "mac"]
    result = accelsim.run(digits, values=False, energy=EnergyOptions(ert=written(tmp_path, tables)))
    bases: dict[str, set[str]] = {}
    units = {unit["name"]: unit["basis"] for unit in result.energy.units}
    for layer in result.layers:
        for line in layer.charges:
            bases.setdefault(line.component, set()).add(units[line.unit])
    memories = ("mac", "activation_sram", "weight_sram", "accumulator_sram", "registers", "dram")
    assert all(bases[name] == {"imported"} for name in memories)
    assert "imported" not in bases["requantiser"] | bases["vector"]


def test_counts_times_energies_are_the_total(digits: Path, tmp_path: Path) -> None:
    """The exported counts, read back and multiplied by the result's own units, give the energy of the run."""
    path = tmp_path / "action_counts.yaml"
    outcome = command("run", digits, "--no-check", "-q", "--action-counts", path)
    assert outcome.code == 0, outcome.stderr
    data = yaml.safe_load(path.read_text("utf-8"))["action_counts"]
    assert data["version"] == 0.4
    result = accelsim.run(digits, values=False)
    units = {unit["name"]: unit["value_pj"] for unit in result.energy.units}
    total = 0.0
    for entry in data["local"]:
        root, part, unit = entry["name"].split(".")
        assert (root, part in result.energy_components_pj) == ("accel_sim", True)
        for action in entry["action_counts"]:
            assert action["name"] in ("read", "write", "add", "multiply", "compute")
            assert isinstance(action["counts"], int)
            total += action["counts"] * units[unit]
    assert total == pytest.approx(result.energy_pj, rel=1e-12)


def test_numbers_as_yaml_1_2_writes_them(tmp_path: Path) -> None:
    """Accelergy's YAML writes 0.00001 as 1e-05, which YAML 1.1 takes for a text: it is a number all the same."""
    path = tmp_path / "ERT.yaml"
    path.write_text("ERT:\n  tables:\n  - name: x.mac\n    actions:\n    - {name: compute, energy: 1e-05}\n")
    assert EnergyOptions(ert=str(path)).load().imported[0].value_pj == 1e-5


def test_counts_of_no_layers() -> None:
    """Nothing counted is an empty list, not an error."""
    assert yaml.safe_load(action_counts([])) == {"action_counts": {"version": 0.4, "local": []}}


@pytest.mark.parametrize(
    ("tables", "names", "words"),
    [
        ([component("chip.mac", compute=-1)], (), "the energy of 'compute' must be from 0 to 1e9 pJ, got -1"),
        ([component("chip.mac", compute=math.nan)], (), "must be from 0 to 1e9 pJ, got nan"),
        ([component("chip.mac", compute=math.inf)], (), "must be from 0 to 1e9 pJ, got inf"),
        ([component("chip.mac", compute="much")], (), "must be a number in pJ, got 'much'"),
        ([component("chip.mac", compute=True)], (), "must be a number in pJ, got True"),
        ([component("chip.mac", compute=None)], (), "must be a number in pJ, got None"),
        ([component("chip.mac", idle=0)], (), "'chip.mac' has none of the actions compute, mac_random"),
        ([component("chip.mac", compute=1), component("chip.adder", add=1)], (), "a mac contains multiplier and adder"),
        ([component("a.mac", compute=1), component("b.mac", compute=1)], (), "both 'a.mac' and 'b.mac' are a mac"),
        ([component("a.mac", compute=1), component("a.mac", compute=2)], (), "component 'a.mac' is listed twice"),
        ([component("chip.noc", transfer=1)], (), "none of its components is called mac, multiplier"),
        (
            [component("chip.noc", transfer=1)],
            ("mac=chip.nok",),
            "has no component 'chip.nok' (did you mean 'chip.noc'",
        ),
        ([component("chip.noc", transfer=1)], ("nic=chip.noc",), "is not understood: write ROLE=COMPONENT"),
        ([component("chip.noc", transfer=1)], ("mac",), "is not understood: write ROLE=COMPONENT"),
        ([], (), "no list ERT: tables"),
        ({"chip.mac": {}}, (), "no list ERT: tables"),
        ([7], (), "table 1: a table has a name and actions"),
        ([{"name": "chip.mac", "actions": 7}], (), "table 1 (chip.mac): actions must be a list"),
        ([{"name": "chip.mac", "actions": [{"energy": 1}]}], (), "every action has a name"),
        ([component("\x1b[31m.mac", compute=-1)], (), "?[31m.mac"),
    ],
)
def test_what_is_not_understood(tmp_path: Path, tables: object, names: tuple[str, ...], words: str) -> None:
    """Exit code 2, one printable line with the file's name and the reason."""
    file = written(tmp_path, tables)
    arguments = [part for name in names for part in ("--ert-map", name)]
    place = "--ert-map" if "is not understood" in words else "ERT.yaml"
    assert_refused(command("energy", "--ert", file, *arguments), 2, words, place)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ERT: [", "not valid YAML"),
        ("a: &a [*a]", "YAML aliases"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", "YAML aliases"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("ERT: " + "9" * 5000, "cannot be read"),
        ("ERT: 2024-99-99", "cannot be read"),
        ("", "no list ERT: tables"),
        ("- 1", "no list ERT: tables"),
        ("#" * ((1 << 20) + 1), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_ert(tmp_path: Path, text: str, words: str) -> None:
    """Broken, hostile and huge files end in a sentence, quickly."""
    path = tmp_path / "ERT.yaml"
    path.write_text(text, "utf-8")
    assert_refused(command("energy", "--ert", path), 2, words)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, no text."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for name in (tmp_path / "missing.yaml", tmp_path, binary):
        assert_refused(command("energy", "--ert", name), 2, "cannot be read")


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    """An ERT has no technology to scale from; a map needs an ERT."""
    with pytest.raises(UsageError, match="states no technology"):
        EnergyOptions(ert=written(tmp_path, FULL), node_nm=7).load()
    with pytest.raises(UsageError, match="give the table with --ert"):
        EnergyOptions(ert_map=("mac=chip.mac",)).load()


@pytest.mark.parametrize("name", ["missing/counts.yaml", "", "."])
def test_counts_that_cannot_be_written(digits: Path, tmp_path: Path, name: str) -> None:
    """An impossible file is refused before the run."""
    target = tmp_path / name if name else ""
    assert_refused(command("run", digits, "--action-counts", target), 2, "choose another file with --action-counts")
