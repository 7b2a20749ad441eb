"""Sessions of the reference on checked graphs: onnxruntime's refusals as sentences, and every tensor as an output."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from onnx import ModelProto, helper

from accelsim.errors import (
    AccelSimError,
    InvalidModelError,
    ResourceLimitError,
    UnsupportedModelError,
    printable,
    reason_of,
)
from accelsim.graph.load.loader import Weights
from accelsim.graph.normalise.block_quantisation import multiply_in_float
from accelsim.graph.normalise.reference import Reference
from accelsim.reference.session import open_session


@dataclass(eq=False)
class ExposedSession:
    """onnxruntime on the optimised graph with every tensor as an output; opened when needed, closed to free memory."""

    data: bytes
    weights: Weights
    name: str
    reference: Reference
    _session: Any = field(default=None, repr=False)

    @property
    def session(self) -> Any:
        """The open session."""
        if self._session is None:
            self._session = open_reference(self.data, self.name, self.reference, weights=self.weights)
        return self._session

    def with_float_products(self, outputs: frozenset[str]) -> ExposedSession:
        """Return a session in which some MatMulNBits multiply in float32, see `multiply_in_float`."""
        proto = ModelProto.FromString(self.data)
        multiply_in_float(proto, outputs)
        self.close()
        return replace(self, data=proto.SerializeToString(), _session=None)

    def close(self) -> None:
        """Free a session that holds its own copy of large weights; others are cheaper to keep than to open again."""
        if self.weights:
            self._session = None


def open_reference(data: bytes, name: str, reference: Reference, **options: Any) -> Any:
    """Open a session with the entries of a reference; arguments and errors as for `open_named`."""
    return open_named(data, name, entries=reference.entries, **options)


def open_named(data: bytes, name: str, **options: Any) -> Any:
    """Open a session, turning onnxruntime's refusal into one sentence.

    Args:
        data: serialised model.
        name: of the model, for messages.
        **options: those of `accelsim.reference.session.open_session`.

    Raises:
        InvalidModelError: onnxruntime refuses the model.
        UnsupportedModelError: it has no kernel for one of its nodes.
        ResourceLimitError: it gets no memory.
    """
    try:
        return open_session(data, **options)
    except Exception as error:  # onnxruntime's errors have no common base class
        raise _refusal(str(error), f"onnxruntime refuses {name}: {reason_of(error)}: ") from None


def _refusal(detail: str, sentence: str) -> AccelSimError:
    """Tell a kernel that onnxruntime lacks and memory that it cannot get from a broken model."""
    if "attribute: dilations" in detail and "QLinearAveragePool" in detail:
        found = re.search(r'In Node, \("([^"]*)"', detail)
        label = printable(found.group(1) if found else "(unnamed)")
        return UnsupportedModelError(
            f"AveragePool '{label}' is quantised and has the attribute dilations, with which onnxruntime, the "
            f"reference, cannot load it: leave the attribute out where it is 1, else remove the Q/DQ nodes around it"
        )
    if "NOT_IMPLEMENTED" in detail:
        return UnsupportedModelError(sentence + "use another operator or element type")
    if "bad_alloc" in detail or "Failed to allocate" in detail:
        return ResourceLimitError(sentence + "use a smaller model or input")
    return InvalidModelError(sentence + "repair or export the model again")


def expose(proto: ModelProto) -> bytes:
    """Return the serialised graph with every tensor as an output."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    outputs = [name for node in proto.graph.node for name in node.output if name]
    produced = set(outputs)
    outputs += [value.name for value in proto.graph.output if value.name not in produced]
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    data: bytes = copy.SerializeToString()
    return data
