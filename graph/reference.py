"""The reference that "bit-exact" refers to: which onnxruntime configuration, on which CPU (design, decision 2)."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onnx import ModelProto, TensorProto

# CPU flags that decide how onnxruntime's integer kernels round and saturate.
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class Reference:
    """A configuration of onnxruntime: session entries, and a sentence that names them."""

    entries: tuple[tuple[str, str], ...]
    description: str


@cache
def cpu_features() -> tuple[str, ...]:
    """Return the CPU features that matter to onnxruntime's kernels (Linux; empty elsewhere)."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return tuple(flag for flag in _FLAGS if flag in flags)


def choose_reference(proto: ModelProto) -> Reference:
    """Choose the session entries for a model on this CPU.

    `session.qdqisint8allowed=1` keeps int8 activations int8. A CPU without VNNI saturates uint8 x int8 products in its
    fast kernels, which `session.x64quantprecision=1` avoids; the two exclude each other, so the activations decide.
    """
    import onnxruntime

    vnni = {"avx512_vnni", "avx_vnni"} & set(cpu_features())
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    entry = "session.qdqisint8allowed"
    if x86 and not vnni and not _has_int8_activations(proto):
        entry = "session.x64quantprecision"
    features = " ".join(cpu_features()) or platform.machine()
    return Reference(
        ((entry, "1"),),
        f"onnxruntime {onnxruntime.__version__} CPU, ORT_ENABLE_ALL, 1 thread, {entry}=1; CPU: {features}",
    )


def _has_int8_activations(proto: ModelProto) -> bool:
    """Tell whether any QuantizeLinear writes int8."""
    int8 = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == TensorProto.INT8}
    return any(
        node.op_type == "QuantizeLinear" and len(node.input) > 2 and node.input[2] in int8 for node in proto.graph.node
    )
