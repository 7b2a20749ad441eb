"""What a node asks of the machine whose values only onnxruntime computes: products and vector work, part by part.

A node such as an attention or a recurrent layer is one kernel in onnxruntime, and several layers here: each part has
work, a plan, cycles, energy and DRAM traffic like any layer, and results that the later parts read. These results have
a type and a place in memory, but no values: they exist inside of onnxruntime's kernel only, and nothing is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.operators.epilogues import Rescale

Runs = tuple[int, int]


@dataclass(frozen=True)
class FloatProduct:
    """What a float product with packed constant weights asks of an array of float multipliers."""

    arithmetic: str
    """One of "float32" or "float16"."""
    depth: int
    """K."""
    columns: int
    """N."""
    weight_bits: int
    """Bits of a weight in memory."""
    block: int
    """Weights along K that share a scale (and a zero point, if there are any)."""
    zero_points: bool
    biased: bool
    """A float32 bias per column is added."""

    @property
    def parameter_bytes(self) -> int:
        """Bytes that travel with a column: scales and zero points of its blocks, and its bias."""
        blocks = -(-self.depth // self.block)
        return blocks * 4 + (-(-blocks * self.weight_bits // 8) if self.zero_points else 0) + 4 * self.biased


@dataclass(frozen=True, eq=False)
class ProductPart:
    """A product inside of a node: `groups` products of M rows, depth K, N columns."""

    m: int
    k: int
    n: int
    groups: int = 1
    arithmetic: str = "float32"
    """One of "integer", "float32" or "float16"."""
    first_bits: int = 32
    second_bits: int = 32
    """first_bits and second_bits: of an element of the operands in memory."""
    dynamic: bool = False
    """The second operand is an input, not constant weights."""
    output_bytes: int = 4
    """Of an element of the result."""
    parameter_bytes: int = 0
    """Bytes per column that travel with constant weights."""
    repeats: int = 1
    """How often it is done, each time behind the time before, with another first operand and the same second one."""
    epilogue: Rescale | None = None
    """What an integer sum passes."""
    subtracts: bool = False
    """Constant weights have a zero point, subtracted on their way into the array."""
    block: int = 0
    """Depth that shares a scale on both sides, whose integer sums are scaled and added as floats, 0 where there is
    none."""
    by_column: bool = False
    """A second operand that is an input lies as [N, K] in memory."""

    @property
    def block_sums(self) -> int:
        """Integer sums of one block each that are scaled and added up, all repetitions together."""
        return self.m * self.n * self.groups * self.repeats * -(-self.k // self.block) if self.block else 0


@dataclass(frozen=True)
class Step:
    """Some arithmetic of a vector part: row of data/vector_unit.toml, elements, and rows that it finishes."""

    row: str
    elements: int
    rows: int = 0


@dataclass(frozen=True)
class VectorPart:
    """Work of the vector unit inside of a node, or a copy where no arithmetic is left."""

    steps: tuple[Step, ...] = ()
    """Its arithmetic."""
    reads: tuple[Runs, ...] | None = None
    writes: tuple[Runs, ...] | None = None
    """reads and writes: (segments, bytes) of each transfer, None for all inputs and all outputs."""
    units: int = 1
    """Indivisible parts."""
    repeats: int = 1
    """How often it is done, one after the other."""
    quantises: bool = False
    """It only makes codes, which floats do not need."""


Part = ProductPart | VectorPart
