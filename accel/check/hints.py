"""What a diagnosis may need to know beside the tensors: facts about the file and about the reference's CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accelsim.operators import Quantise


@dataclass(frozen=True, eq=False)
class Hints:
    """What is known about the reference and the file beside the tensors."""

    reference_saturates: bool = False
    """The reference's CPU saturates pair sums of uint8 x int8 products."""
    collapsed: Mapping[str, Quantise] = field(default_factory=dict)
    """By tensor name, the QuantizeLinear of the file that onnxruntime merged with another one."""
    bias_ratios: Mapping[str, float] = field(default_factory=dict)
    """By tensor name, scale of a bias over the product of the scales of both operands."""
