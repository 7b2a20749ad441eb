"""Runs SCALE-Sim 3.0.0 and writes what it reports to tests/data/scalesim_3.0.0.csv; not part of the tests.

SCALE-Sim crashes with NumPy 2, so it wants an environment of its own:

    python3 -m venv scalesim && scalesim/bin/pip install 'numpy<2' scalesim==3.0.0
    scalesim/bin/python tests/timing/regenerate_scalesim.py

Its memories are in CALC mode, in which every read hits and nothing stalls; the script refuses rows with stalls.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "data" / "scalesim_3.0.0.csv"
DATAFLOWS = ("ws", "os", "is")
GEMMS = (
    # M, K, N: corners, then sizes that fit no array, then layers of small networks.
    (1, 1, 1), (1, 1, 40), (1, 40, 1), (40, 1, 1), (4, 4, 4), (4, 3, 4), (8, 8, 8), (9, 8, 8), (8, 9, 8), (8, 8, 9),
    (16, 32, 16), (17, 33, 31), (5, 7, 11), (13, 2, 29), (2, 64, 3), (31, 16, 5), (3, 100, 50), (50, 100, 3),
    (64, 27, 16), (49, 72, 32), (1, 128, 10), (100, 25, 6), (16, 150, 16), (196, 36, 8), (23, 61, 47),
)  # fmt: skip
LAYERS = (
    # Layers of ResNet-18 and MobileNet.
    (1, 512, 1000), (49, 256, 512), (196, 128, 256), (784, 64, 128), (196, 256, 512), (784, 128, 256),
)  # fmt: skip
RUNS = (((4, 3), GEMMS), ((8, 8), GEMMS), ((16, 32), GEMMS), ((32, 32), LAYERS))
Gemms = tuple[tuple[int, int, int], ...]

CONFIG = """
[general]
run_name = run
[architecture_presets]
ArrayHeight : {rows}
ArrayWidth : {cols}
IfmapSramSzkB : 1024
FilterSramSzkB : 1024
OfmapSramSzkB : 1024
IfmapOffset : 0
FilterOffset : 10000000
OfmapOffset : 20000000
Dataflow : {dataflow}
Bandwidth : 10
ReadRequestBuffer : 32
WriteRequestBuffer : 32
[layout]
IfmapCustomLayout : False
IfmapSRAMBankBandwidth : 10
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterCustomLayout : False
FilterSRAMBankBandwidth : 10
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2
[sparsity]
SparsitySupport : false
[run_presets]
InterfaceBandwidth : CALC
UseRamulatorTrace : False
"""


def reported_cycles(folder: Path, rows: int, cols: int, dataflow: str, gemms: Gemms) -> list[int]:
    """Run products on one array and return the column `Total Cycles` of the compute report."""
    from scalesim.scale_sim import scalesim

    folder.mkdir()
    config, topology, layout = folder / "run.cfg", folder / "gemms.csv", folder / "layout.csv"
    config.write_text(CONFIG.format(rows=rows, cols=cols, dataflow=dataflow))
    lines = [f"gemm{number}, {m}, {n}, {k}, 1:1," for number, (m, k, n) in enumerate(gemms)]
    topology.write_text("Layer, M, N, K, Sparsity,\n" + "\n".join(lines) + "\n")
    layout.write_text("Layer,\n" + "".join(f"gemm{number}," + "1," * 30 + "\n" for number in range(len(gemms))))
    machine = scalesim(True, False, str(config), str(topology), str(layout), input_type_gemm=True)
    machine.run_scale(top_path=str(folder))
    with (folder / "run" / "COMPUTE_REPORT.csv").open() as report:
        table = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(report)]
    if len(table) != len(gemms) or any(float(row["Stall Cycles"]) for row in table):
        raise SystemExit(f"{dataflow} on {rows}x{cols}: rows are missing or stalled")
    return [round(float(row["Total Cycles"])) for row in table]


def main() -> None:
    """Write the table."""
    lines = ["rows,cols,dataflow,m,k,n,total_cycles"]
    with tempfile.TemporaryDirectory() as temporary:
        for (rows, cols), gemms in RUNS:
            for dataflow in DATAFLOWS:
                totals = reported_cycles(Path(temporary) / f"{dataflow}{rows}x{cols}", rows, cols, dataflow, gemms)
                for (m, k, n), total in zip(gemms, totals, strict=True):
                    lines.append(f"{rows},{cols},{dataflow},{m},{k},{n},{total}")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{len(lines) - 1} rows\n")


if __name__ == "__main__":
    main()
