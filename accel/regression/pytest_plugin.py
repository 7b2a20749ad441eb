"""pytest plugin: a fixture and a marker that hold a model to bit-exactness, a budget of cycles and one of energy.

    def test_my_model(accel_sim):
        result = accel_sim("model.onnx", array="16x16")
        result.assert_exact()
        result.assert_cycles(at_most=20_000)

Every pytest of an environment in which accel-sim is installed loads this module, so that it imports nothing of weight
before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from accelsim.errors import AccelSimError

if TYPE_CHECKING:
    from accelsim.regression.expectations import ModelRun
    from accelsim.results.comparison import Comparison

MARKER = (
    "accel_sim(model, *, exact=True, max_lsb=None, max_ulp=None, cycles=None, energy_uj=None, no_overflow=False, "
    "tolerance=0.0, **options): run a model before the test, and fail unless its outputs equal onnxruntime's bit for "
    "bit, or are within max_lsb and max_ulp of them, and it keeps its budgets; "
    'options as for the fixture accel_sim, such as array="16x16"'
)
_DEMANDS = ("exact", "max_lsb", "max_ulp", "cycles", "energy_uj", "no_overflow", "tolerance")
_RUNS = pytest.StashKey[dict[str, "ModelRun"]]()
_Answer = TypeVar("_Answer")


class AccelSim:
    """What the fixture `accel_sim` gives: call it to run a model; runs of one session are kept and used again.

    Relative paths are looked up beside the test's file, then in pytest's root folder.
    """

    def __init__(self, folders: tuple[Path, ...], runs: dict[str, ModelRun]) -> None:
        self._folders = folders
        self._runs = runs

    def __call__(self, model: str | Path, **options: Any) -> ModelRun:
        """Run a model and return what can be asserted of it.

        Args:
            model: path of an .onnx file.
            **options: those of `accel-sim run`: array="16x16", dataflow="ws", acc_bits=32, overflow="wrap", arch (file
                or preset), settings (several "section.key=value"), inputs (path of an .npz file, or arrays by name),
                seed, reference, external_data, bind ("batch=1,seq=128", or a mapping).
        """
        __tracebackhide__ = True
        from accelsim.regression.expectations import run_model

        path = self._find(model)
        for name in ("inputs", "arch"):
            if isinstance(options.get(name), str | Path):
                options[name] = self._find(options[name])
        if isinstance(options.get("inputs"), dict):
            return _friendly(run_model, path, options)
        stamps = [_stamp(file) for file in (path, options.get("inputs"), options.get("arch"))]
        key = repr((path, stamps, sorted(options.items())))
        if key not in self._runs:
            self._runs[key] = _friendly(run_model, path, options)
        return self._runs[key]

    def verify(self, golden: str | Path, **options: Any) -> Comparison:
        """Run a recorded model again, and fail with the differences if there are any.

        Args:
            golden: folder that `accel-sim record` wrote.
            **options: those of `accelsim.verify`: model, cycles_tolerance, energy_tolerance, ignore, external_data.
        """
        __tracebackhide__ = True
        from accelsim.regression.expectations import verify_golden

        if isinstance(options.get("model"), str | Path):
            options["model"] = self._find(options["model"])
        return _friendly(verify_golden, self._find(golden), options)

    def _find(self, path: str | Path) -> str:
        """Return the path beside the test's file or in the root folder; as it is where neither exists."""
        places = [folder / path for folder in self._folders]
        return str(next((place for place in places if place.exists()), path))


def _stamp(path: object) -> tuple[int, int] | None:
    """Return what tells that a file changed."""
    if not isinstance(path, str | Path) or not Path(path).exists():
        return None
    status = Path(path).stat()
    return status.st_mtime_ns, status.st_size


def _friendly(function: Callable[..., _Answer], *arguments: Any) -> _Answer:
    """Call a function; what a user can do something about fails the test with a sentence instead of a traceback."""
    __tracebackhide__ = True
    try:
        return function(*arguments)
    except AccelSimError as error:
        sentence = f"accel-sim: {error}"
    pytest.fail(sentence, pytrace=False)  # outside of the handler, else pytest prints the sentence twice


def _check(options: dict[str, Any]) -> None:
    """Refuse keywords of a marker that mean nothing."""
    __tracebackhide__ = True
    from accelsim.regression.expectations import check_marker

    _friendly(check_marker, options, _DEMANDS)


def _runner(item: pytest.Item) -> AccelSim:
    """Return what runs models for one test."""
    return AccelSim((item.path.parent, item.config.rootpath), item.config.stash[_RUNS])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that --strict-markers knows it."""
    config.addinivalue_line("markers", MARKER)
    config.stash[_RUNS] = {}


@pytest.fixture
def accel_sim(request: pytest.FixtureRequest) -> AccelSim:
    """Run models and hold them to budgets: `accel_sim("model.onnx", array="16x16").assert_exact()`."""
    return _runner(request.node)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Hold a test's models to what its markers demand, before its own body runs."""
    __tracebackhide__ = True
    for marker in item.iter_markers("accel_sim"):
        options = dict(marker.kwargs)
        models = [*marker.args, *([options.pop("model")] if "model" in options else [])]
        if len(models) != 1:
            pytest.fail("accel-sim: a marker accel_sim(MODEL, ...) takes exactly one model", pytrace=False)
        _check(options)
        demands = {name: options.pop(name) for name in _DEMANDS if name in options}
        run = _runner(item)(models[0], **options)
        broken = None
        try:
            _friendly(run.assert_demands, demands)
        except AssertionError as error:
            broken = str(error)
        if broken is not None:
            pytest.fail(broken, pytrace=False)
