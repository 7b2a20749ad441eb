"""Energy tables of users: what is read, and every way to get one wrong refused in one sentence with its row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accelsim.energy.reader import load_table, parse_table, read_table
from accelsim.errors import UsageError
from tests.cli.command import assert_refused, command
from tests.energy.tables import PACKAGED, row, smallest, table_of, text

Rows = list[dict[str, Any]]


def test_the_packaged_table_reads_as_a_users_table(tmp_path: Path) -> None:
    """A copy of the packaged file is a valid table of one's own."""
    path = tmp_path / "mine.toml"
    path.write_text(PACKAGED, "utf-8")
    assert read_table(str(path)).rows == load_table().rows
    assert read_table(str(path)).laws == load_table().laws
    assert read_table(str(path)).file == str(path)


def test_the_packaged_table_states_its_laws() -> None:
    """Every law of the code is a [[law]] of the file with its range and a source of its own."""
    assert PACKAGED.count("\n[[law]]\n") == len(load_table().laws)
    assert all(law.source != "accel-sim, docs/energy.md" for law in load_table().laws)


def test_the_smallest_table_prices_everything() -> None:
    """One row per kind, two memories and DRAM are enough to price everything: proportions take the place of slopes."""
    table = table_of(smallest())
    assert table.adder(16).value_pj == pytest.approx(0.05)
    assert table.multiplier(16, 16).value_pj == pytest.approx(0.8)
    assert table.operation("fp16_add").value_pj == pytest.approx(0.9 * 11 / 24)
    assert table.operation("fp16_multiply").value_pj == pytest.approx(3.7 * 11**2 / 24**2)
    assert table.sram("bank", 8192, 32).value_pj == 5
    assert table.sram("bank", 32768, 32).value_pj == 20
    assert table.dram().value_pj == 125


def test_units_are_converted() -> None:
    """FJ and nJ are pJ in the end; the row keeps what was written."""
    rows = smallest()
    rows[0] |= {"value": 100, "unit": "fJ"}
    rows[6] |= {"value": 1, "unit": "nJ"}
    table = table_of(rows)
    assert table.adder(32).value_pj == pytest.approx(0.1)
    assert table.dram().value_pj == 125
    assert (table.rows[0].value, table.rows[0].unit) == (100, "fJ")


def test_rows_of_ones_own_may_be_estimates() -> None:
    """An interpolated row states its law, and what rests on it says interpolated."""
    rows = smallest()
    rows[1] |= {"basis": "interpolated", "law": "half of a 16-bit multiplier", "range": [8, 16]}
    unit = table_of(rows).multiplier(8, 8)
    assert (unit.value_pj, unit.basis) == (0.2, "interpolated")


def test_dram_may_be_of_another_technology_and_another_point() -> None:
    """DRAM is another chip; the point of its range is the table's choice."""
    rows = smallest()
    rows[6] |= {"point": "low", "node_nm": 20, "voltage": 1.2}
    assert table_of(rows, dram_point="low").dram().rows == ("dram_low",)


def changed(index: int, **keys: Any) -> Callable[[Rows], Rows]:
    """Return a change of one row; None removes the key."""

    def change(rows: Rows) -> Rows:
        rows[index] |= keys
        rows[index] = {key: value for key, value in rows[index].items() if value is not None}
        return rows

    return change


def without(index: int) -> Callable[[Rows], Rows]:
    return lambda rows: rows[:index] + rows[index + 1 :]


def added(**keys: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows, keys]


WRONG = [
    (without(0), "no row for integer add, needed for accumulators"),
    (without(1), "no row for integer multiply, needed for the array"),
    (without(2), "no row for float add"),
    (without(3), "no row for float multiply"),
    (without(4), "only one row for memory access, needed for the law of capacities: add another"),
    (without(6), "dram_point is 'mid', and the rows of dram are none"),
    (lambda rows: [], "no rows"),
    (changed(0, value=-0.1), "row 1 (integer add 32): value must be a number from 1e-09 to 1e+09, got -0.1"),
    (changed(0, value=0), "row 1 (integer add 32): value must be a number"),
    (changed(0, value=float("nan")), "row 1 (integer add 32): value must be a number"),
    (changed(0, value=float("inf")), "row 1 (integer add 32): value must be a number"),
    (changed(0, value="0.1"), "value must be a number from 1e-09 to 1e+09, got '0.1'"),
    (changed(0, value=True), "value must be a number from 1e-09 to 1e+09, got True"),
    (changed(0, value=None), "row 1 (integer add 32): value missing"),
    (changed(1, source=None), "row 2 (integer multiply 8): source missing"),
    (changed(1, source=""), "source must be a text, got ''"),
    (changed(1, basis="guessed"), "basis must be one of measured, interpolated, got 'guessed'"),
    (changed(1, basis="interpolated"), "row 2 (integer multiply 8): law missing"),
    (changed(1, law="some law"), "row 2 (integer multiply 8): unknown key 'law'"),
    (changed(1, basis="interpolated", law="x", range=[16, 8]), "range must be [lowest, highest], got [16, 8]"),
    (changed(1, basis="interpolated", law="x", range=[8]), "range must be [lowest, highest]"),
    (changed(1, basis="interpolated", law="x", range=["a", "b"]), "range must be [lowest, highest]"),
    (changed(0, unit="J"), "row 1 (integer add 32): unit must be one of fJ, pJ, nJ, got 'J'"),
    (changed(0, unit="pW"), "unit must be one of fJ, pJ, nJ, got 'pW'"),
    (changed(0, unit="W"), "unit must be one of fJ, pJ, nJ, got 'W'"),
    (changed(0, unit=["pJ"]), "unit must be one of fJ, pJ, nJ, got ['pJ']"),
    (changed(0, width=0), "width must be a whole number from 1 to 4,096, got 0"),
    (changed(0, width=8.5), "width must be a whole number"),
    (changed(0, width=None), "row 1 (integer add): width missing"),
    (changed(0, widht=8), "unknown key 'widht' (did you mean 'width'?)"),
    (changed(0, component="intger"), "component must be one of integer, float, memory, dram, static, got 'intger'"),
    (changed(0, operation="divide"), "operation must be one of add, multiply, got 'divide'"),
    (changed(0, node_nm=0), "node_nm must be a number from 1 to 1000, got 0"),
    (changed(0, voltage=12), "voltage must be a number from 0.1 to 5, got 12"),
    (changed(0, node_nm=28), "row 2 (int8 multiply) is of 45 nm at 0.9 V, row 1 (int32 add) of 28 nm"),
    (changed(2, format="fp8"), "format must be one of bf16, fp16, fp32, got 'fp8'"),
    (changed(4, capacity_bytes=-8), "capacity_bytes must be a whole number"),
    (changed(4, capacity_bytes=None), "row 5 (memory access 64): capacity_bytes missing"),
    (changed(6, point="typical"), "point must be one of low, mid, high, got 'typical'"),
    (added(**row("integer", "add", 0.2, width=32)), "row 8 repeats row 1 (int32 add): keep one of them"),
    (added(**row("memory", "access", 9.0, capacity_bytes=8192, width=64)), "row 8 repeats row 5 (memory 8192 byte)"),
    (added(**row("integer", "add", 0.2, width=16)), "row 1 (int32 add) costs 0.1 pJ, less than row 8 (int16 add)"),
    (added(**row("integer", "multiply", 0.3, width=16)), "row 8 (int16 multiply) costs 0.01875 pJ per bit, less than"),
    (added(**row("float", "add", 1.0, format="bf16")), "row 3 (fp32 add) costs 0.9 pJ, less than row 8 (bf16 add)"),
    (
        added(**row("memory", "access", 1.0, capacity_bytes=1 << 20, width=64)),
        "row 8 (memory 1048576 byte) costs 0.015625 pJ per bit, less than row 6 (memory 32768 byte) with 0.625 pJ",
    ),
    (changed(5, value=900.0), "row 6 (memory 32768 byte) costs 28.125 pJ per bit, row 5 (memory 8192 byte) 0.15625 pJ"),
    (added(**row("static", "leakage", 1.0)), "row 8 (static leakage): unit must be one of W, mW, uW, pJ/cycle"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words[:60] for _, words in WRONG])
def test_wrong_tables_are_refused(change: Callable[[Rows], Rows], words: str, tmp_path: Path) -> None:
    """The command says file, row and reason in one line, and leaves with exit code 2."""
    path = tmp_path / "wrong.toml"
    path.write_text(text(change(smallest())), "utf-8")
    outcome = command("energy", "--energy-table", path)
    assert_refused(outcome, 2, f"energy table {path}", words)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "no rows"),
        ("row = 3", "no rows"),
        ("row = [1, 2]", "no rows"),
        ("[[row]]\nvalue = ", "not valid TOML"),
        ("x = " + "9" * 5000, "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("colour = 'red'\n" + PACKAGED, "unknown key 'colour'"),
        (PACKAGED.replace('name = "horowitz45"', "name = 45"), "name must be a text, got 45"),
        (PACKAGED.replace('dram_point = "mid"', "dram_point = 7"), "dram_point is 7"),
        (PACKAGED.replace('law = "linear"', 'law = "cubic"'), "law 1 (integer add): law must be 'linear'"),
        (
            PACKAGED.replace("range = [8, 32]", "range = [4, 64]", 1),
            "range is [4, 64], but its rows reach from 8 to 32",
        ),
        (PACKAGED + '[[law]]\ncomponent = "dram"\noperation = "access"\n', "law 7 (dram access): component must be"),
        (PACKAGED + '[[law]]\ncomponent = "float"\noperation = "divide"\n', "operation must be one of add, multiply"),
        (PACKAGED + PACKAGED[PACKAGED.index("\n[[law]]\n") :], "law 7 (integer add): stated twice"),
        ("law = 4\n" + PACKAGED[: PACKAGED.index("\n[[law]]\n")], "laws are written as [[law]]"),
    ],
)
def test_files_that_are_no_tables(written: str, words: str) -> None:
    """Whatever the file is, the answer is one sentence."""
    with pytest.raises(UsageError) as caught:
        parse_table(written, "wrong.toml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("energy table wrong.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, no text, too large, an impossible name."""
    binary, large = tmp_path / "binary.toml", tmp_path / "large.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_text("#" * (1 << 20) + "\n\n")
    for name in (tmp_path / "missing.toml", tmp_path, binary, large, "with\0null.toml"):
        with pytest.raises(UsageError, match=r"^energy table "):
            read_table(str(name))


def test_terminal_codes_in_tables_are_inert(tmp_path: Path, digits: Path) -> None:
    """Names and sources of a user's table reach terminals without escape sequences and without markup."""
    path = tmp_path / "hostile.toml"
    rows = smallest()
    for entry in rows:
        entry["source"] = "[red]x[/red]\\u001b[31m"
    path.write_text(text(rows, name="\\u001b]0;title\\u0007").replace("\\\\u", "\\u"), "utf-8")
    for arguments in (("energy",), ("run", digits, "--no-check", "-v")):
        outcome = command(*arguments, "--energy-table", path)
        assert outcome.code == 0, outcome.stderr
        assert "\x1b" not in outcome.stdout
        assert "\x07" not in outcome.stdout
    assert "[red]x[/red]?[31m" in command("energy", "--energy-table", path).stdout


def test_a_table_of_ones_own_prices_a_run(tmp_path: Path, digits: Path) -> None:
    """Ten times the energies, ten times the total."""
    path = tmp_path / "tenfold.toml"
    path.write_text(PACKAGED.replace('unit = "pJ"', 'unit = "fJ"').replace("horowitz45", "mine"), "utf-8")
    mine = command("run", digits, "--no-check", "--energy-table", path, "--json")
    ours = command("run", digits, "--no-check", "--json")
    import json

    a, b = json.loads(mine.stdout), json.loads(ours.stdout)
    assert a["totals"]["energy_pj"] == pytest.approx(b["totals"]["energy_pj"] / 1000, rel=1e-9)
    assert a["energy"]["table"] == "mine"
