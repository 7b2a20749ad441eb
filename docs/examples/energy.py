"""How much of an operation's saving survives on a whole network: Horowitz' ratios, then the digits network.

python docs/examples/energy.py
"""

from __future__ import annotations

from pathlib import Path

import accelsim
from accelsim.energy import load_table

DIGITS = Path(__file__).resolve().parent.parent.parent / "models" / "digits_int8.onnx"


def main() -> None:
    """Print the table of docs/energy.md."""
    table = load_table()
    result = accelsim.run(DIGITS, values=False)
    formats = {baseline.format: baseline for baseline in result.energy.detail.baselines}
    print("| fp32 over int8 | fp32 | int8 | ratio |")
    print("|---|---|---|---|")
    for name in ("add", "multiply"):
        fp32, int8 = table.operation(f"fp32_{name}").value_pj, table.operation(f"int8_{name}").value_pj
        print(f"| one {name} | {fp32:g} pJ | {int8:g} pJ | {fp32 / int8:.1f} |")
    chip = ("registers", "accumulator_sram", "activation_sram", "weight_sram", "requantiser", "vector")
    for title, parts in (("multipliers and adders", ("mac",)), ("all on chip", ("mac", *chip)), ("all", None)):
        fp32, int8 = (
            formats[form].energy_pj if parts is None else sum(formats[form].components[part] for part in parts)
            for form in ("fp32", "int8")
        )
        print(f"| digits, {title} | {fp32 / 1e6:.2f} uJ | {int8 / 1e6:.2f} uJ | {fp32 / int8:.1f} |")


if __name__ == "__main__":
    main()
