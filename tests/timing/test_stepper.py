"""The register-level stepper against big integers (values) and the recurrence (cycles, classes, events)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from accelsim.errors import ResourceLimitError, UsageError
from accelsim.kernels.cycles import recurrence
from accelsim.kernels.registers import specs as stepper_specs
from accelsim.machine.arch import Arch
from accelsim.timing.gemm import gemm_timing
from accelsim.timing.recurrence import array_spec
from accelsim.timing.registers import SteppedGemm, Stepper, step_gemm
from tests.tiers import few
from tests.timing.harness import Operands

SHAPES = ((1, 1), (4, 4), (5, 3), (3, 8), (8, 8), (1, 6), (7, 1), (16, 16))


@dataclass(frozen=True)
class Case:
    """One product on one machine, with ready times per tile or with everything resident."""

    arch: Arch
    operands: Operands
    ready_w: Sequence[int] | None = None
    ready_x: Sequence[int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, K, N."""
        m, k = self.operands.activations.shape
        return m, k, len(self.operands.bias)

    def step(self) -> SteppedGemm:
        """Execute it register by register."""
        parts = self.operands.activations, self.operands.weights, self.operands.bias
        return step_gemm(*parts, self.arch, ready_w=self.ready_w, ready_x=self.ready_x)

    def accumulators(self) -> np.ndarray:
        """Replay it in big integers."""
        return self.operands.accumulators(self.arch.acc_bits, self.arch.overflow == "saturate")

    def tiles(self) -> int:
        """Number of tiles."""
        return gemm_timing(*self.shape, self.arch).tiles


def extent(draw: np.random.Generator, *sizes: int) -> int:
    """Draw an extent: small, or near a multiple of a size of the machine."""
    near = int(draw.choice(sizes)) * int(draw.integers(1, 3)) + int(draw.integers(-1, 3))
    return max(1, near) if draw.random() < 0.6 else int(draw.integers(1, 13))


def random_case(draw: np.random.Generator, dataflow: str, shapes: Sequence[tuple[int, int]] = SHAPES[:-1]) -> Case:
    """Draw a machine with all its options, a product that just fits or just does not, and operands."""
    rows, cols = shapes[int(draw.integers(len(shapes)))]
    flag = draw.integers(0, 2, 4).astype(bool).tolist()
    arch = Arch(
        array=(rows, cols),
        dataflow=dataflow,
        acc_rows=int(draw.integers(1, 2 * rows + 8)),
        weight_double_buffer=flag[0],
        drain_overlap=flag[1],
        flush_between_tiles=bool(draw.random() < 0.2),
        weight_load="full" if flag[2] else "used",
        acc_bits=int(draw.integers(8, 65)),
        overflow="saturate" if flag[3] else "wrap",
        x_gather_words_per_cycle=int(draw.integers(1, rows + 2)) if draw.random() < 0.2 else None,
    )
    m, k, n = extent(draw, rows, cols), extent(draw, rows), extent(draw, cols, rows)
    operands = Operands.random(m, k, n, int(draw.integers(1 << 30)))
    if draw.random() < 0.1:
        operands = replace(operands, bias=draw.choice([-(1 << 63), (1 << 63) - 1, -(1 << 31), (1 << 31) - 1], n))
    return Case(arch, operands)


def with_waits(case: Case, draw: np.random.Generator) -> Case:
    """Add random ready times, now and then far ahead of the array."""
    tiles = case.tiles()
    horizon = 2 * gemm_timing(*case.shape, case.arch).cycles
    ready = [np.sort(draw.integers(0, horizon, tiles)), draw.integers(0, horizon, tiles)]
    draw.shuffle(ready)
    ready = [np.where(draw.random(tiles) < 0.3, 0, times) for times in ready]
    return replace(case, ready_w=ready[0].tolist(), ready_x=ready[1].tolist())


# ------------------------------------------------------------------------------------------------------ the recurrence


def evaluated(case: Case) -> tuple[int, Counter[str]]:
    """Evaluate contract 4.1 or 4.2, tile by tile, with the ready times; wait_x is not divided."""
    arch, spec = case.arch, array_spec(case.arch)
    state, classes = np.zeros(4, np.int64), np.zeros(len(recurrence.CLASSES), np.int64)
    for number, tile in enumerate(tiles_of(case)):
        ready_w = case.ready_w[number] if case.ready_w is not None else 0
        ready_x = case.ready_x[number] if case.ready_x is not None else 0
        if arch.dataflow == "os":
            recurrence.output_step(spec, state, *tile, ready_x, 0, True, *tile, classes)
        else:
            steps, depth, columns, accumulates = tile
            recurrence.stationary_step(spec, state, depth, columns, steps, ready_w, ready_x, 0, accumulates, classes)
    counts = Counter(dict(zip(recurrence.CLASSES, classes.tolist(), strict=True)))
    drain, tail = (arch.rows if arch.dataflow == "os" else 0), arch.rows + arch.cols
    counts.update({"wait_x": counts.pop("wait_x_load"), "shift": drain, "tail": tail})
    return int(state[0] + state[1]) + drain + tail, +counts


def tiles_of(case: Case) -> Iterator[tuple[int, ...]]:
    """Yield (steps,) per OS tile, (steps, Kt, columns, accumulates) per WS or IS tile, in the order of section 4.4."""
    (m, k, n), arch = case.shape, case.arch
    if arch.dataflow == "os":
        for _ in range(0, n, arch.cols):
            yield from ((k * arch.gather_cycles(min(arch.rows, m - row)),) for row in range(0, m, arch.rows))
        return
    streamed, held = (n, m) if arch.dataflow == "is" else (m, n)
    for column in range(0, held, arch.cols):
        for row in range(0, streamed, arch.acc_rows):
            for fold in range(0, k, arch.rows):
                steps, depth = min(arch.acc_rows, streamed - row), min(arch.rows, k - fold)
                steps *= arch.gather_cycles(depth) if arch.dataflow == "ws" else 1
                yield steps, depth, min(arch.cols, held - column), fold > 0


def assert_equal(case: Case) -> None:
    """Demand equal values, cycles, classes and, where they do not depend on waits, events and tiles."""
    done = case.step()
    assert np.array_equal(done.accumulators, case.accumulators()), case
    cycles, classes = evaluated(case)
    assert (done.cycles, dict(done.classes)) == (cycles, dict(classes)), case
    assert sum(dict(done.classes).values()) == done.cycles, case
    timing = gemm_timing(*case.shape, case.arch)
    assert (done.tiles, dict(done.events)) == (timing.tiles, dict(timing.events)), case
    if case.ready_w is None:
        assert (done.cycles, dict(done.classes)) == (timing.cycles, dict(timing.classes)), case


# --------------------------------------------------------------------------------------------------------- random cases


@pytest.mark.parametrize("seed", few(range(4), 1))
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_random_products_equal_the_recurrence(dataflow: str, seed: int) -> None:
    """4,800 products, everything resident: values, cycles, classes, events."""
    draw = np.random.default_rng([seed, len(dataflow), ord(dataflow[0])])
    for _ in range(400):
        assert_equal(random_case(draw, dataflow))


@pytest.mark.parametrize("seed", few(range(4), 1))
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_random_products_that_wait(dataflow: str, seed: int) -> None:
    """3,600 products whose operands and banks come at random times."""
    draw = np.random.default_rng([seed, 7, ord(dataflow[0])])
    for _ in range(300):
        assert_equal(with_waits(random_case(draw, dataflow), draw))


def test_random_cases_have_all_classes() -> None:
    """The cases that are drawn are not all alike: every class of the contract occurs, and every option."""
    draw, seen = np.random.default_rng(3), Counter[str]()
    for dataflow in ("ws", "os", "is") * 40:
        done = with_waits(random_case(draw, dataflow), draw).step()
        seen.update(name for name, _ in done.classes)
    assert set(seen) == {"stream", "push", "shift", "flush", "wait_w", "hazard", "wait_x", "tail"}
    assert min(seen.values()) >= 5


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_products_on_a_larger_array_equal_the_recurrence(dataflow: str) -> None:
    """A few products on 16x16."""
    draw = np.random.default_rng([16, ord(dataflow[0])])
    for _ in range(4):
        case = random_case(draw, dataflow, SHAPES[-1:])
        assert_equal(case)
        assert_equal(with_waits(case, draw))


# ------------------------------------------------------------------------------------------------------------ corners

# Rows, columns, M, K, N, other options.
CORNERS: dict[str, tuple[tuple[int, int], tuple[int, int, int], dict[str, object]]] = {
    "K < R": ((4, 4), (7, 3, 4), {}),
    "K = R": ((4, 4), (8, 4, 4), {}),
    "K = R + 1": ((4, 4), (8, 5, 4), {}),
    "K = R + 2": ((4, 4), (8, 6, 4), {}),
    "K = 2 R": ((4, 4), (9, 8, 4), {}),
    "K = 1": ((4, 4), (9, 1, 9), {}),
    "Mt < R + 2": ((4, 4), (3, 12, 4), {}),
    "Mt = R + 1": ((4, 4), (5, 12, 4), {}),
    "Mt = R + 2": ((4, 4), (6, 12, 4), {}),
    "R = 1": ((1, 5), (4, 3, 11), {}),
    "C = 1": ((5, 1), (4, 12, 3), {}),
    "one PE": ((1, 1), (3, 4, 2), {}),
    "T = 1": ((4, 4), (1, 9, 9), {}),
    "one row of accumulators": ((4, 4), (5, 9, 5), {"acc_rows": 1}),
    "last tile smaller in all directions": ((4, 3), (9, 9, 7), {"acc_rows": 8}),
    "full load": ((6, 3), (7, 8, 4), {"weight_load": "full"}),
}


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("name", CORNERS)
def test_corners_equal_the_recurrence_with_every_buffering(name: str, dataflow: str) -> None:
    """Each corner with all combinations of the buffering options."""
    shape, product, options = CORNERS[name]
    for mode in ({}, {"weight_double_buffer": False}, {"drain_overlap": False}, {"flush_between_tiles": True}):
        arch = Arch(array=shape, dataflow=dataflow, **{"acc_rows": 64, **options, **mode})
        assert_equal(Case(arch, Operands.random(*product)))


EXTREMES = {
    "INT_MIN bias": (0, 0, -(1 << 31)),
    "INT_MAX bias": (0, 0, (1 << 31) - 1),
    "all-max operands": (255, 127, (1 << 31) - 1),
    "all-min operands": (-256, -128, -(1 << 31)),
    "products of opposite sign": (-256, 127, 0),
}


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [8, 9, 16, 17, 31, 32, 33, 48, 62, 63, 64])
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_operands_in_narrow_sums_equal_big_integers(name: str, bits: int, overflow: str) -> None:
    """Accumulators narrower than one product, and operands at the ends of their ranges."""
    x, w, b = EXTREMES[name]
    operands = Operands(np.full((3, 9), x), np.full((2, 9), w), np.full(2, b))
    for dataflow in ("ws", "os", "is"):
        assert_equal(Case(Arch(array=(4, 2), dataflow=dataflow, acc_bits=bits, overflow=overflow), operands))


@pytest.mark.parametrize("sign", [-1, 1])
def test_64_bits_saturate_and_wrap_at_their_own_ends(sign: int) -> None:
    """Sums that leave 64 bits."""
    operands = Operands(
        np.full((2, 3), 255), np.full((1, 3), 127 * sign), np.full(1, (1 << 63) - 1 if sign > 0 else -(1 << 63))
    )
    for overflow in ("wrap", "saturate"):
        assert_equal(Case(Arch(array=2, acc_bits=64, overflow=overflow), operands))


def test_all_dataflows_give_the_same_accumulators() -> None:
    """Section 2: the order of the sums is the same, so narrow saturating accumulators are, too."""
    operands = Operands.random(6, 23, 7)
    machines = [Arch(array=(4, 3), dataflow=name, acc_bits=12, overflow="saturate") for name in ("ws", "os", "is")]
    first, *others = [Case(machine, operands).step().accumulators for machine in machines]
    assert all(np.array_equal(first, other) for other in others)


# ---------------------------------------------------------------------------------------------------------- bad input


def test_a_mutilated_controller_gives_other_sums() -> None:
    """A hazard one cycle too short reads old accumulators: the comparison of values is not vacuous."""
    operands = Operands.random(1, 8, 4)
    stepper = Stepper(operands.activations, operands.weights, operands.bias, Arch(array=4))
    while not stepper.finished():
        if stepper.cycle == 4 + 4 + 1:  # the sum of row 0 is committed at the end of this cycle
            stepper.registers.pending[:] = 0
        stepper.tick()
    last = stepper.registers.control[stepper_specs.Control.LAST_COMMIT]
    assert last + 1 == gemm_timing(1, 8, 4, Arch(array=4)).cycles - 1
    assert not np.array_equal(stepper.registers.result, operands.accumulators())


@pytest.mark.parametrize(
    ("operands", "words"),
    [
        ((np.zeros((2, 3), int), np.zeros((4, 2), int), np.zeros(4, int)), "do not fit"),
        ((np.zeros((2, 3), int), np.zeros((4, 3), int), np.zeros(3, int)), "do not fit"),
        ((np.zeros((0, 3), int), np.zeros((4, 3), int), np.zeros(4, int)), "do not fit"),
        ((np.zeros((2, 3)), np.zeros((4, 3), int), np.zeros(4, int)), "integers"),
        ((np.full((2, 3), 1 << 20), np.zeros((4, 3), int), np.zeros(4, int)), "wider than 16 bits"),
    ],
)
def test_operands_that_do_not_fit_are_refused(operands: tuple[np.ndarray, ...], words: str) -> None:
    """One sentence."""
    with pytest.raises(UsageError, match=words):
        step_gemm(*operands, Arch())


def test_what_the_stepper_does_not_execute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready times for other tiles, and waits without an end."""
    operands = Operands.random(2, 2, 2)
    parts = operands.activations, operands.weights, operands.bias
    with pytest.raises(UsageError, match="one per tile"):
        step_gemm(*parts, Arch(array=4), ready_w=[0, 0])
    monkeypatch.setattr("accelsim.timing.registers.MAX_PE_CYCLES", 1 << 16)
    with pytest.raises(ResourceLimitError, match="smaller product"):
        step_gemm(*parts, Arch(array=4), ready_w=[1 << 40])
