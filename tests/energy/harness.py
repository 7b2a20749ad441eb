"""One layer, planned as a run plans it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from accelsim import Arch, operators as ops
from accelsim.mapping.search import choose_plan
from accelsim.operators.tensors import TensorType
from accelsim.program.layers import Layer
from accelsim.program.machine_work import machine_work
from accelsim.program.work import describe_work

Array = NDArray[Any]


def planned(operator: ops.Operator, sources: list[Array], out_shape: tuple[int, ...], arch: Arch) -> Layer:
    """Plan one operator whose output is its raw sums."""
    inputs = tuple(TensorType.of(source.dtype.name, source.shape) for source in sources)
    target = (TensorType.of("int32", out_shape),)
    work = machine_work(describe_work(operator, inputs, target), operator, arch)
    names = tuple(f"x{index}" for index in range(len(sources)))
    return Layer("layer", "Conv", operator, names, ("y",), inputs, target, work, choose_plan("layer", work, arch).plan)
