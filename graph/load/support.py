"""Whether a checked file can run at all: every reason why not, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from onnx import ModelProto, NodeProto

from accelsim.errors import Finding, UnsupportedModelError
from accelsim.graph.load.constraints import OPSET_WINDOW, node_findings, opset_finding, value_findings
from accelsim.graph.load.float_models import float_model_error
from accelsim.graph.load.tensor_checks import model_constants
from accelsim.graph.qonnx.expand import OLDEST_OPSET
from accelsim.graph.qonnx.quantisers import in_qonnx_domain, is_qonnx, qonnx_findings


def check_support(proto: ModelProto, name: str, source: str, undecided: Mapping[str, str] | None = None) -> None:
    """Refuse whatever cannot run, naming all of it at once.

    Args:
        proto: the model, functions and decided branches in place.
        name: its name, for messages.
        source: what the user named, for the command that quantises it.
        undecided: by output of an If, why its condition cannot be computed.

    Raises:
        UnsupportedModelError: it cannot run, with every reason.
    """
    qonnx = is_qonnx(proto)
    wrong_opset = list(opset_finding(proto, OLDEST_OPSET if qonnx else OPSET_WINDOW[0]))
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    findings = [*value_findings(proto), *_function_findings(proto)]
    left = {(function.domain, function.name) for function in proto.functions}
    for node in proto.graph.node:
        if (node.domain, node.op_type) not in left and not in_qonnx_domain(node.domain):
            findings.extend(
                _with_reason(finding, node, undecided or {})
                for finding in node_findings(node, OPSET_WINDOW[1] if wrong_opset else opset)
            )
    if qonnx:
        findings.extend(qonnx_findings(proto, model_constants(proto)))
    float_error = float_model_error(proto, name, source)
    if float_error is not None and not findings:
        raise float_error
    findings = [*wrong_opset, *findings]
    if findings:
        shown = findings[:40]
        more = f" (the first {len(shown)} of them)" if len(findings) > len(shown) else ""
        raise UnsupportedModelError(f"{name} cannot run, {len(findings)} reason(s){more}:", shown)


def _with_reason(finding: Finding, node: NodeProto, undecided: Mapping[str, str]) -> Finding:
    """Add why the condition of an If cannot be computed, if that is known."""
    reason = next((undecided[output] for output in node.output if output and output in undecided), "")
    return replace(finding, reason=f"{finding.reason} (its condition: {reason})") if reason else finding


def _function_findings(proto: ModelProto) -> Iterator[Finding]:
    """Name the local functions that are left, which onnx could not put in the place of their calls."""
    for function in proto.functions:
        reason = "it is written in other versions of the operators than the model, so that it cannot be put in place"
        yield Finding(function.name, "function", reason, "export the model without functions")
