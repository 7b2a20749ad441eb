"""The reference that "bit-exact" refers to: which onnxruntime configuration, on which CPU (ADR 15)."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from accelsim.graph.normalise.activation_codes import activation_types
from accelsim.reference.schemas import version
from accelsim.reference.session import open_session

# CPU flags that decide how onnxruntime's integer kernels round and saturate.
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


# What a user may compare with: onnxruntime with int8 activations kept int8, or with nothing set at all.
MODES = ("ort", "ort-default")


@dataclass(frozen=True)
class Reference:
    """A configuration of onnxruntime: session entries, and a sentence that names them."""

    entries: tuple[tuple[str, str], ...]
    description: str
    optimised: bool = True
    """The optimiser writes the graph that is executed (ORT_ENABLE_ALL); else the file is executed literally."""
    subject: str = "the file as it is"
    """What it runs."""
    without: tuple[str, ...] = ()
    """Names of onnxruntime's optimisers that are left out."""

    def excluding(self, optimiser: str) -> Reference:
        """Return the same configuration without one of onnxruntime's optimisers, for files that it breaks."""
        said = f"{self.description}; without {optimiser}, with which onnxruntime refuses the file"
        return replace(self, without=(*self.without, optimiser), description=said).on(self.subject)

    def on(self, subject: str) -> Reference:
        """Return the same configuration on a file; what it runs says which optimisers the file is run without."""
        names = " and ".join(self.without)
        left_out = f", without onnxruntime's {names}, with which it refuses the file" if names else ""
        return replace(self, subject=f"{subject}{left_out}")


@cache
def cpu_features() -> tuple[str, ...]:
    """Return the CPU features that matter to onnxruntime's kernels (Linux; empty elsewhere)."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return tuple(flag for flag in _FLAGS if flag in flags)


@cache
def saturates_products() -> bool:
    """Tell whether onnxruntime's fast uint8 x int8 kernel saturates pair sums at 16 bits on this CPU.

    It does on x86-64 with AVX2 or AVX-512 but without VNNI; largest codes show it at once.
    """
    left = helper.make_tensor_value_info("a", TensorProto.UINT8, [4, 64])
    weights = numpy_helper.from_array(np.full((64, 32), 127, np.int8), "b")
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    result = helper.make_tensor_value_info("y", TensorProto.INT32, [4, 32])
    graph = helper.make_graph([node], "probe", [left], [result], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = open_session(model.SerializeToString())
    product = session.run(None, {"a": np.full((4, 64), 255, np.uint8)})[0]
    return bool((product != 64 * 255 * 127).any())


def choose_reference(proto: ModelProto, mode: str = "ort") -> Reference:
    """Choose the session entries for a model on this CPU.

    In mode "ort-default" nothing is set: onnxruntime on x86-64 then turns int8 activations into uint8 where it can, and
    computes in float where it cannot. In mode "ort" `session.qdqisint8allowed=1` keeps int8 activations int8. A CPU
    whose fast kernels saturate uint8 x int8 sums needs `session.x64quantprecision=1` to be right; the two exclude each
    other, so the activations' type decides.

    Args:
        proto: the model.
        mode: one of MODES.
    """
    if mode == "ort-default":
        remark = " (saturates uint8 x int8 pair sums)" if saturates_products() else ""
        return Reference((), _describe("default options", remark))
    names, remark, kinds = ["session.qdqisint8allowed"], "", activation_types(proto)
    if saturates_products():
        if TensorProto.INT8 in kinds:
            remark = " (saturates uint8 x int8 pair sums)"
        else:
            names = ["session.x64quantprecision"]
    return Reference(tuple((name, "1") for name in names), _describe(", ".join(f"{name}=1" for name in names), remark))


def literal_reference() -> Reference:
    """Return the reference of a QONNX model: its nodes spelled in float32 operators, executed one by one."""
    description = _describe("QONNX nodes expanded to their definition in float32", "", "ORT_DISABLE_ALL")
    return Reference((), description, optimised=False, subject="a copy whose QONNX nodes are spelled in float32")


def _describe(options: str, remark: str, level: str = "ORT_ENABLE_ALL") -> str:
    """Return the sentence that names a configuration, this onnxruntime and this CPU."""
    features = " ".join(cpu_features()) or platform.machine()
    return f"onnxruntime {version()} CPU, {level}, 1 thread, {options}; CPU: {features}{remark}"
