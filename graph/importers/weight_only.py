"""Weight-only quantisation: float activations times packed weights, executed by onnxruntime, priced on the array.

The arithmetic is float32 (or float16), whose sums depend on the order of additions: the values are onnxruntime's own.
What the machine pays is stated by a FloatProduct: float multiplications, packed weights, their dequantisation. Where
onnxruntime quantises the activations itself, block by block, the machine is priced for that: products of integers.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from accelsim.graph.context import Context, Imported, attributes
from accelsim.graph.importers.host import import_host
from accelsim.graph.importers.part_list import PartList
from accelsim.graph.load.element_types import ELEMENT_BITS
from accelsim.graph.normalise.block_quantisation import runs_in_int8
from accelsim.graph.quantised.tensor import NotOnTheMachineError
from accelsim.operators import FloatProduct, ProductPart, VectorPart
from accelsim.operators.epilogues import Rescale
from accelsim.operators.parts import Step


def import_matmul_n_bits(context: Context, node: NodeProto) -> Imported:
    """MatMulNBits: a, packed weights, scales [, zero points [, group indices [, bias]]]."""
    attribute = attributes(node)
    if len(node.input) > 4 and node.input[4]:
        raise NotOnTheMachineError("reordered groups")
    context.constant(node, 1)
    product = FloatProduct(
        _arithmetic(context, node),
        int(attribute["K"]),
        int(attribute["N"]),
        int(attribute.get("bits", 4)),
        int(attribute["block_size"]),
        len(node.input) > 3 and bool(node.input[3]),
        len(node.input) > 5 and bool(node.input[5]),
    )
    if runs_in_int8(node, product.arithmetic) and min(context.types[node.input[0]].elements, product.columns):
        return _blocked_product(context, node, product)
    return import_host(context, node, product=product)


def _blocked_product(context: Context, node: NodeProto, product: FloatProduct) -> Imported:
    """Accuracy level 4: activations to int8 with a scale per block, then products of integers, scaled per block."""
    source = context.types[node.input[0]]
    rows, blocks = source.elements // product.depth, -(-product.depth // product.block)
    parts = PartList(context, node)
    shape = *source.shape[:-1], product.depth + 4 * blocks  # codes, and the float32 scales of their blocks
    steps = (Step("BlockQuantise", source.elements, rows * blocks),)
    (codes,) = parts.vector("quantise", VectorPart(steps, quantises=True), [node.input[0]], [("codes", "int8", shape)])
    bias = np.zeros(1, np.float32) if product.biased else None
    part = ProductPart(
        rows, product.depth, product.columns, 1, "integer", 8 - (-32 // product.block), product.weight_bits, False,
        source.dtype.itemsize, product.parameter_bytes, 1, Rescale(np.ones(1, np.float32), bias), product.zero_points,
        product.block,
    )  # fmt: skip
    return parts.finish(part, [codes])


def import_float_product(context: Context, node: NodeProto) -> Imported:
    """MatMul and Gemm whose second operand is a DequantizeLinear of constant codes, per tensor, channel or block."""
    dequantise = context.producer(node.input[1])
    codes = "" if dequantise is None else dequantise.input[0]
    if dequantise is None or dequantise.op_type != "DequantizeLinear" or codes not in context.tensors:
        raise NotOnTheMachineError("weights that are not quantised constants")
    weights = context.types[codes].shape
    if len(weights) != 2 or any(name and name not in context.constants for name in dequantise.input[1:]):
        raise NotOnTheMachineError("weights that are not a matrix with constant scales")
    depth, columns = reversed(weights) if attributes(node).get("transB") else weights
    attribute = attributes(dequantise)
    product = FloatProduct(
        _arithmetic(context, node),
        depth,
        columns,
        ELEMENT_BITS[context.tensors[codes].data_type],
        int(attribute.get("block_size", 0)) or depth,
        len(dequantise.input) > 2 and bool(dequantise.input[2]),
        len(node.input) > 2 and bool(node.input[2]),
    )
    return import_host(context, node, dequantise, product=product)


def import_float_convolution(context: Context, node: NodeProto) -> Imported:
    """Conv and FusedConv with one tap and one group, whose weights are dequantised constants in blocks of channels."""
    dequantise = context.producer(node.input[1])
    codes = "" if dequantise is None else dequantise.input[0]
    if dequantise is None or dequantise.op_type != "DequantizeLinear" or codes not in context.constants:
        raise NotOnTheMachineError("weights that are not quantised constants")
    attribute, weights = attributes(dequantise), context.types[codes].shape
    block = int(attribute.get("block_size", 0))
    if math.prod(weights[2:]) != 1 or int(attributes(node).get("group", 1)) != 1 or not block:
        raise NotOnTheMachineError("not a product of channels with blocked weights")
    if len(node.input) > 3 and node.input[3]:
        raise NotOnTheMachineError("a fused addition")
    bits = ELEMENT_BITS[context.tensors[codes].data_type]
    zero_points = len(dequantise.input) > 2 and bool(dequantise.input[2])
    biased = len(node.input) > 2 and bool(node.input[2])
    product = FloatProduct(_arithmetic(context, node), weights[1], weights[0], bits, block, zero_points, biased)
    return import_host(context, node, dequantise, product=product)


def _arithmetic(context: Context, node: NodeProto) -> str:
    """Return the float type of the activations, if the energy table has it."""
    kind = context.types[node.input[0]].dtype
    if kind not in (np.dtype(np.float32), np.dtype(np.float16)):
        raise NotOnTheMachineError("neither float32 nor float16")
    return str(kind.name)
