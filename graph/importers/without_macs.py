"""Operators that are known to do no multiply-accumulates; what is neither here nor counted is named as uncounted.

Element-wise functions, data movement, comparisons, reductions, pooling, normalisation and interpolation of pixels
multiply and add, but contract nothing: docs/energy.md prices them element by element. An operator that may contract and
has no counter (DFT, STFT, GridSample, mixtures of experts, ...) must not be in this table.
"""

from __future__ import annotations

_ELEMENTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike
Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity
IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu
RotaryEmbedding Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan Tanh
ThresholdedRelu Where Xor
"""
_MOVEMENT = """
CenterCropPad Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather GatherElements
GatherND OneHot Pad Range Reshape ReverseSequence Scatter ScatterElements ScatterND Shape Size Slice SpaceToDepth Split
Squeeze TensorScatter Tile Transpose Trilu Unsqueeze
"""
_REDUCTIONS = """
ArgMax ArgMin AveragePool CumProd CumSum GlobalAveragePool GlobalLpPool GlobalMaxPool Hardmax LogSoftmax LpPool MaxPool
MaxRoiPool MaxUnpool NonMaxSuppression NonZero ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Softmax TopK Unique
"""
_NORMALISATION = """
BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization
MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization
"""
_OTHERS = """
BlackmanWindow DequantizeLinear DynamicQuantizeLinear HammingWindow HannWindow MelWeightMatrix QuantizeLinear Resize
Upsample
"""
_MICROSOFT = """
BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu BitmaskBiasDropout BitmaskDropout DequantizeLinear
EmbedLayerNormalization ExpandDims FastGelu GatherBlockQuantized GatherND Gelu GemmaRotaryEmbedding GroupNorm
IsAllFinite MRotaryEmbedding MaxpoolWithMask MulInteger NGramRepeatBlock NhwcMaxPool Pad QEmbedLayerNormalization
QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean
QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu Range ReduceSumInteger RemovePadding RestorePadding
RotaryEmbedding ScaledSiLU SimplifiedLayerNormalization SkipGroupNorm SkipLayerNormalization
SkipSimplifiedLayerNormalization Trilu Unique
"""
_BLOCKED = "AveragePool GlobalAveragePool GlobalMaxPool MaxPool ReorderInput ReorderOutput Upsample"
_CHANNELS_LAST = """
AveragePool BatchNormalization DepthToSpace GlobalAveragePool GlobalLpPool GlobalMaxPool InstanceNormalization LRN
LpPool MaxPool MaxUnpool QLinearAveragePool Resize SpaceToDepth
"""

WITHOUT_MACS: frozenset[tuple[str, str]] = frozenset(
    (domain, name)
    for domain, names in (
        ("", _ELEMENTWISE + _MOVEMENT + _REDUCTIONS + _NORMALISATION + _OTHERS),
        ("com.microsoft", _MICROSOFT),
        ("com.microsoft.nchwc", _BLOCKED),
        ("com.ms.internal.nhwc", _CHANNELS_LAST),
    )
    for name in names.split()
)
