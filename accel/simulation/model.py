"""A loaded model, ready to be run on any machine; normalisation and import happen once per set of input shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.errors import UsageError, nearest
from accelsim.graph.importers.importer import import_graph
from accelsim.graph.ir import Graph
from accelsim.graph.load.limits import Limits
from accelsim.graph.load.loader import CheckedModel, load_bytes, load_model
from accelsim.graph.normalise.binding import batch_size, bind_dimensions, input_types, open_constants, open_dimensions
from accelsim.graph.normalise.normalise import NormalisedModel, normalise
from accelsim.graph.normalise.reference import MODES
from accelsim.graph.normalise.tensor_types import Feeds
from accelsim.operators.dimensions import Dimension
from accelsim.operators.tensors import TensorType
from accelsim.simulation.inputs import draw_inputs

if TYPE_CHECKING:
    from accelsim.energy import EnergyTable
    from accelsim.machine.arch import Arch
    from accelsim.program.layers import Program

OWN_MODELS = "models:"  # what the names of models that we build ourselves begin with

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(eq=False)
class _LastPlan:
    """What a graph was last planned for, and its program: samples run one after the other are planned once."""

    arch: Arch | None = None
    prices: EnergyTable | None = None
    program: Program | None = None


@dataclass(frozen=True, eq=False)
class Bound:
    """A model for inputs of fixed shapes: as onnxruntime executes it, and as a graph of machine operators."""

    normalised: NormalisedModel
    graph: Graph
    dimensions: tuple[Dimension, ...] = ()
    """Those that the file leaves open, with their sizes."""
    batch: int | None = None
    """Samples in one run, None where the file does not say which dimension counts them."""
    _last: _LastPlan = field(default_factory=_LastPlan, repr=False)

    def planned(self, arch: Arch, prices: EnergyTable | None = None) -> Program:
        """Return the layers of the model on a machine, each with its plan.

        Args:
            arch: the machine.
            prices: what energy costs, where the mapper minimises it; None takes the packaged table.

        Raises:
            UsageError: a scratchpad is too small for one tile of some layer.
        """
        from accelsim.energy import load_table
        from accelsim.mapping.network import plan
        from accelsim.program.lower import lower

        prices, last = prices or load_table(), self._last
        if last.program is None or last.arch != arch or last.prices is not prices:
            last.program = plan(lower(self.graph, arch), arch, prices)
            last.arch, last.prices = arch, prices
        return last.program


@dataclass(eq=False)
class Model:
    """A checked model; `bind` fixes its shapes and keeps the last binding.

    reference: which configuration of onnxruntime its values are compared with.
    """

    checked: CheckedModel
    limits: Limits
    reference: str = "ort"
    _last: dict[str, tuple[NormalisedModel, Graph, _LastPlan]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """File name of the model."""
        return self.checked.name

    def inputs(self, batch: int = 1) -> dict[str, TensorType]:
        """Return the types of the inputs, dynamic dimensions replaced by a batch size."""
        return input_types(self.checked, batch)

    def taking(self, arrays: Mapping[str, object] | None) -> Model:
        """Return the model for these arrays: what is given for a constant that the file lists as an input replaces it.

        Args:
            arrays: what a run is given, by name; None where nothing is.
        """
        checked = open_constants(self.checked, arrays) if isinstance(arrays, Mapping) else self.checked
        return self if checked is self.checked else Model(checked, self.limits, self.reference)

    def bind(self, shapes: Shapes | None = None, feeds: Feeds | None = None) -> Bound:
        """Fix the input shapes (dynamic dimensions become 1 without shapes) and import the graph.

        Args:
            shapes: shape of every input that is given, or None where none are.
            feeds: gives the inputs of the run, for models whose shapes depend on data; None draws them.

        Raises:
            AccelSimError: see `normalise` and `import_graph` in accelsim.graph.
        """
        chosen = dict(shapes) if shapes is not None else {name: kind.shape for name, kind in self.inputs().items()}
        normalised, graph, last = self._imported(chosen, feeds)
        dimensions = open_dimensions(self.checked, chosen, given=shapes is not None)
        return Bound(normalised, graph, dimensions, batch_size(self.checked, chosen), last)

    def _imported(self, shapes: Shapes, feeds: Feeds | None) -> tuple[NormalisedModel, Graph, _LastPlan]:
        """Normalise and import for some shapes, or return what was made of the last ones."""
        key = repr(sorted(shapes.items()))
        for known in (key, _with_data(key, feeds) if self._last else ""):
            if known in self._last:
                return self._last[known]
        drawn = feeds or (lambda: draw_inputs(input_types(self.checked, shapes=shapes)))
        normalised = normalise(self.checked, shapes, self.limits, self.reference, drawn)
        self._last.clear()
        graph = import_graph(normalised)
        made = normalised.without_weights().with_float_products(graph.recast), graph, _LastPlan()
        self._last[_with_data(key, feeds) if normalised.by_data else key] = made
        return made


def _with_data(key: str, feeds: Feeds | None) -> str:
    """Return a key that also depends on the inputs of a run, for models whose shapes do."""
    digest = hashlib.sha256(key.encode())
    for name, array in sorted(({} if feeds is None else feeds()).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def load(
    source: str | Path | bytes,
    limits: Limits | None = None,
    *,
    external_data: bool | None = None,
    reference: str = "ort",
    bind: Mapping[str, int] | None = None,
) -> Model:
    """Load and check a model.

    Args:
        source: path of an .onnx file, its bytes, or models:NAME for one of our own (`accel-sim models` lists them).
        limits: budgets; None takes the defaults.
        external_data: False refuses tensors in other files; else they are read, which must lie in the model's folder.
        reference: "ort" keeps int8 activations int8 in onnxruntime; "ort-default" compares with its default options.
        bind: sizes of dynamic dimensions by name, where a static network is deployed: the reference is then the file
            with these sizes in it, not the file as it is.

    Raises:
        AccelSimError: the file cannot be read, is broken, hostile, too large or not supported.
    """
    limits = limits or Limits()
    if reference not in MODES:
        raise UsageError(f"there is no reference '{reference}' ({nearest(str(reference), MODES)})")
    checked = _checked(source, limits, external_data=external_data)
    return Model(bind_dimensions(checked, bind) if bind else checked, limits, reference)


def _checked(source: str | Path | bytes, limits: Limits, *, external_data: bool | None) -> CheckedModel:
    """Load a model from where it is."""
    if isinstance(source, bytes):
        return load_bytes(source, limits=limits)
    if not isinstance(source, str | Path):
        raise UsageError(f"a model is a path or bytes, not {type(source).__name__}: give the path of a .onnx file")
    if is_own_model(source):
        return load_bytes(own_model(source), own_name(source), limits, source=str(source))
    return load_model(source, limits, external_data=external_data)


def is_own_model(source: str | Path) -> bool:
    """Whether this names a model of our own instead of a file, which ./models:NAME would be."""
    return str(source).startswith(OWN_MODELS)


def own_name(source: str | Path) -> str:
    """Return the name of a model of our own without the prefix."""
    return str(source).removeprefix(OWN_MODELS)


def own_model(source: str | Path) -> bytes:
    """Return the file of a model of our own, which is built on first use.

    Raises:
        UsageError: there is none of this name.
    """
    from accelsim.models.store import model_bytes

    return model_bytes(own_name(source))
