"""The nodes that take several layers of the machine while onnxruntime alone knows their values."""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto

from accelsim.graph.attention_sizes import ATTENTION
from accelsim.graph.context import Context, Imported
from accelsim.graph.import_attention import import_attention
from accelsim.graph.import_recurrent import RECURRENT

IN_PARTS: dict[tuple[str, str], Callable[[Context, NodeProto], Imported]] = {
    **dict.fromkeys(ATTENTION, import_attention),
    **RECURRENT,
}
