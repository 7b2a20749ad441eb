"""Reference tensors from onnxruntime: every tensor of the normalised graph, final outputs, the literal Q/DQ file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.graph.normalise.normalise import NormalisedModel
from accelsim.graph.normalise.sessions import open_named
from accelsim.reference.session import run_session

Array = NDArray[np.generic]

_WINDOW_BYTES = 64 << 20


class ReferenceTensors:
    """Tensors of the normalised graph as onnxruntime computes them, fetched window by window to bound memory."""

    def __init__(self, model: NormalisedModel, inputs: Mapping[str, Array]) -> None:
        self._model = model
        self._inputs = dict(inputs)
        self._order = list(model.types)
        self._position = {name: index for index, name in enumerate(self._order)}
        self._window: dict[str, Array] = {}

    def fetch(self, names: Sequence[str]) -> list[Array]:
        """Return tensors by name; asking in the order of the graph runs onnxruntime once per window.

        Args:
            names: tensors that nodes produce, or graph inputs.
        """
        missing = [name for name in names if name not in self._window and name not in self._inputs]
        if missing:
            self._window = self._run(self._next_window(missing))
        return [self._inputs[name] if name in self._inputs else self._window[name] for name in names]

    def _next_window(self, names: Sequence[str]) -> list[str]:
        """Return the names wanted and as many following tensors as the budget allows."""
        chosen = list(dict.fromkeys(names))
        budget = _WINDOW_BYTES - sum(self._model.types[name].size_bytes for name in chosen)
        for name in self._order[max(self._position[name] for name in chosen) + 1 :]:
            budget -= self._model.types[name].size_bytes
            if budget < 0:
                break
            chosen.append(name)
        return chosen

    def _run(self, names: list[str]) -> dict[str, Array]:
        return dict(zip(names, run_session(self._model.exposed.session, names, self._inputs), strict=True))


def final_outputs(model: NormalisedModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the user's own file in the reference configuration (ORT_ENABLE_ALL unless the file is executed literally)."""
    level = "all" if model.reference.optimised else "none"
    return _outputs(model, inputs, optimise=level, entries=model.reference.entries, without=model.reference.without)


def literal_outputs(model: NormalisedModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the user's own file literally: DequantizeLinear, float operator, QuantizeLinear (ORT_DISABLE_ALL)."""
    return _outputs(model, inputs)


def _outputs(model: NormalisedModel, inputs: Mapping[str, Array], **options: Any) -> dict[str, Array]:
    """Run the user's own file once; no other session with large weights stays open beside it."""
    model.exposed.close()
    file, weights = (model.file, {}) if model.file else (model.source.SerializeToString(), model.weights)
    session = open_named(file, model.name, weights=weights, **options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, run_session(session, names, inputs), strict=True))
