"""What the machine can be told to compute: one frozen dataclass per operator, constants included.

An operator says nothing about where its operands lie or when it runs. Scales are float32 and already combined
the way onnxruntime combines them, so that the datapath only multiplies, rounds and clamps.
"""

from __future__ import annotations

from accelsim.operators.codes import CodeFormat, FloatOperand
from accelsim.operators.contractions import (
    Contraction,
    Convolution,
    Epilogue,
    MatrixMultiply,
    RuntimeParameters,
    Shape,
    Weights,
)
from accelsim.operators.elementwise import (
    CLAMP,
    CLIP_CODES,
    AveragePool,
    Dequantise,
    DynamicQuantise,
    ElementwiseAdd,
    ElementwiseMultiply,
    FloatArray,
    FloatBinary,
    GlobalAveragePool,
    IntArray,
    MaxPool,
    Softmax,
    SoftmaxArithmetic,
    TableLookup,
)
from accelsim.operators.epilogues import Quantise, Raw, Requantise, Rescale
from accelsim.operators.geometry import ConvolutionGeometry, DepthWindow
from accelsim.operators.host import HostOperator
from accelsim.operators.movement import Concatenate, Gather, Movement, Pad, Slice, Split, Transpose, View
from accelsim.operators.parts import FloatProduct, Part, ProductPart, VectorPart
from accelsim.operators.thresholds import DequantiseUniform, QuantiseUniform, SumCodes, SumPool, Threshold
from accelsim.operators.vector import VectorOperator

Operator = (
    Contraction
    | ElementwiseAdd
    | ElementwiseMultiply
    | FloatBinary
    | AveragePool
    | GlobalAveragePool
    | MaxPool
    | Softmax
    | TableLookup
    | Concatenate
    | Quantise
    | DynamicQuantise
    | Dequantise
    | QuantiseUniform
    | DequantiseUniform
    | SumCodes
    | SumPool
    | Movement
    | VectorOperator
    | Part
    | HostOperator
)

__all__ = [
    "CLAMP",
    "CLIP_CODES",
    "AveragePool",
    "CodeFormat",
    "Concatenate",
    "Contraction",
    "Convolution",
    "ConvolutionGeometry",
    "DepthWindow",
    "Dequantise",
    "DequantiseUniform",
    "DynamicQuantise",
    "ElementwiseAdd",
    "ElementwiseMultiply",
    "Epilogue",
    "FloatArray",
    "FloatBinary",
    "FloatOperand",
    "FloatProduct",
    "Gather",
    "GlobalAveragePool",
    "HostOperator",
    "IntArray",
    "MatrixMultiply",
    "MaxPool",
    "Movement",
    "Operator",
    "Pad",
    "Part",
    "ProductPart",
    "Quantise",
    "QuantiseUniform",
    "Raw",
    "Requantise",
    "Rescale",
    "RuntimeParameters",
    "Shape",
    "Slice",
    "Softmax",
    "SoftmaxArithmetic",
    "Split",
    "SumCodes",
    "SumPool",
    "TableLookup",
    "Threshold",
    "Transpose",
    "VectorOperator",
    "VectorPart",
    "View",
    "Weights",
]
