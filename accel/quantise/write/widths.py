"""Codes of activations, tensor by tensor: the scheme's, or others where a layer's own width is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from accelsim.errors import UsageError, nearest, printable
from accelsim.quantise.grid import CodeSpec
from accelsim.quantise.network.source import FloatModel
from accelsim.quantise.scheme import Scheme


@dataclass(frozen=True)
class ActivationSpecs:
    """Codes of all activations."""

    usual: CodeSpec
    """What the scheme says."""
    asked: Mapping[str, CodeSpec]
    """By tensor, where a layer's own width is asked for."""
    layers: Mapping[str, str]
    """Who asked, by tensor."""

    def of(self, tensor: str) -> CodeSpec:
        """Return the codes of an activation of the float model, by its name."""
        return self.asked.get(tensor, self.usual)


def activation_specs(model: FloatModel, scheme: Scheme) -> ActivationSpecs:
    """Return the codes of a network's activations.

    Args:
        model: the float model.
        scheme: its `layer_activation_bits` name operators, whose outputs are meant, or inputs of the model.

    Raises:
        UsageError: there is no operator and no input of that name.
    """
    usual = CodeSpec(
        scheme.activation_bits,
        scheme.activation_signed,
        scheme.activation_mapping == "symmetric",
        scheme.activation_narrow,
    )
    outputs = {node.name: tuple(node.output) for node in model.proto.graph.node} | {
        name: (name,) for name in model.inputs
    }
    asked, layers = {}, {}
    for entry in scheme.layer_activation_bits:
        if entry.layer not in outputs:
            raise UsageError(
                f"there is no layer or input '{printable(entry.layer)}' whose activations could have {entry.bits} bits "
                f"({nearest(entry.layer, list(outputs))})"
            )
        for tensor in outputs[entry.layer]:
            for name in (tensor, *_clamped(model, tensor)):
                asked[name] = replace(usual, bits=entry.bits)
                layers[name] = entry.layer
    return ActivationSpecs(usual, asked, layers)


def _clamped(model: FloatModel, tensor: str) -> tuple[str, ...]:
    """Return what a Relu or Clip that alone reads a tensor makes of it: the two share a quantiser."""
    readers = [node for node in model.proto.graph.node if tensor in node.input]
    if len(readers) != 1 or readers[0].op_type not in ("Relu", "Clip"):
        return ()
    return (str(readers[0].output[0]),)


def check_widths(specs: ActivationSpecs, bits: Mapping[str, int]) -> None:
    """Check that every width that was asked for is one that a tensor has.

    Args:
        specs: what was asked for.
        bits: of the tensors that have a quantiser, by name.

    Raises:
        UsageError: a layer has no quantiser behind it, or passes on the codes of another one.
    """
    for layer in dict.fromkeys(specs.layers.values()):
        tensors = [tensor for tensor, who in specs.layers.items() if who == layer]
        found = {tensor: bits[tensor] for tensor in tensors if tensor in bits}
        if not found:
            raise UsageError(
                f"nothing that '{printable(layer)}' writes is quantised, so it has no width: name another layer"
            )
        wrong = next((tensor for tensor, width in found.items() if width != specs.asked[tensor].bits), None)
        if wrong is not None:
            raise UsageError(
                f"'{printable(layer)}' passes on codes of {found[wrong]} bits, from the layer before it or from a "
                f"constant table: set the width of that layer, or leave this one out"
            )
