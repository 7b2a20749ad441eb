"""The nodes that take several layers of the machine while onnxruntime alone knows their values."""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto

from accelsim.graph.context import Context, Imported
from accelsim.graph.importers.attention import import_attention
from accelsim.graph.importers.attention_sizes import ATTENTION
from accelsim.graph.importers.recurrent import RECURRENT
from accelsim.graph.load.constraints import Support

IN_PARTS: dict[tuple[str, str], Callable[[Context, NodeProto], Imported]] = {
    **dict.fromkeys(ATTENTION, import_attention),
    **RECURRENT,
}

# Rows of the list of operators; accelsim.graph.load.constraints has the others.
PART_OPERATORS = (
    Support(
        "Attention, QAttention, MultiHeadAttention, GroupQueryAttention, DecoderMaskedSelfAttention, "
        "DecoderMaskedMultiHeadAttention",
        "the same (Attention of ai.onnx and of com.microsoft), also between DequantizeLinear and QuantizeLinear",
        "array, vector",
        "in parts: projections, scores and their product with the values on the array, the rest on the vector unit; "
        "keys and values of a cache are read once per group of heads; products of codes in integers, else in floats; "
        "values from onnxruntime",
    ),
    Support(
        "LSTM, GRU, RNN, DynamicQuantizeLSTM",
        "the same; weights as they are or behind DequantizeLinear",
        "array, vector",
        "in parts: the input of all steps as one product, then a product and the gates of each step; float32; "
        "values from onnxruntime",
    ),
)
