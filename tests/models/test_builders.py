"""The built networks have the layers of their publications, sensible activations, and are exact on the machine."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

import accelsim
from accelsim.models.catalogue import ENTRIES, Figures
from accelsim.models.store import build, find, model_bytes
from accelsim.simulation.inputs import draw_inputs
from accelsim.values.execute import LayerValues
from tests.harness import assert_sound
from tests.tiers import few

# Parameters as published (batch normalisation's scale and shift counted, its statistics not) and MACs.
# resnet18, resnet50, mobilenetv2: torchvision.models, "num_params" of the weights IMAGENET1K_V1, and its "_ops" (1.814,
# 4.089 and 0.301 GMAC). mobilenetv1: trainable parameters of keras.applications.MobileNet and table 8 of the paper
# (569 M). ds-cnn: 24,908 of MLPerf Tiny's Keras model, less its statistics (576 channels, mean and variance) and the
# convolutions' own biases (576), which batch normalisation makes redundant. bert-*: 109,482,240 and 4,385,920 are
# those of transformers' BertModel. vit-*: 5,717,416 and 22,050,664 are those of DeiT-Ti and -S without distillation.
PUBLISHED = {
    "resnet18": (11_689_512, 1.814e9),
    "resnet50": (25_557_032, 4.089e9),
    "mobilenetv1": (4_231_976, 569e6),
    "mobilenetv2": (3_504_872, 301e6),
    "ds-cnn": (24_908 - 3 * 576, 2.7e6),
    "bert-tiny": (4_385_920, None),
    "bert-base": (109_482_240, 22.5e9 / 2),
    "vit-tiny": (5_717_416, 1.3e9),
    "vit-small": (22_050_664, 4.6e9),
}
SMALL = ("ds-cnn", "autoencoder", "bert-tiny", "mobilenetv2", "decoder-prefill", "decoder-decode")


@cache
def model(name: str) -> accelsim.Model:
    """Load a built model once for all tests."""
    return accelsim.load(f"models:{name}")


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_are_those_published(name: str) -> None:
    """Parameters agree to the last one, MACs within the digits that are published."""
    figures = Figures.of(find(name)[0].draw())
    parameters, macs = PUBLISHED[name]
    assert figures.parameters_unfolded == parameters
    if macs is not None:
        assert figures.macs == pytest.approx(macs, rel=0.04 if name == "vit-tiny" else 0.02)


def test_the_autoencoder_is_that_of_mlperf_tiny() -> None:
    """Ten dense layers, 640 to 128 to 8 to 128 to 640."""
    shapes = [step.shape[1] for step in find("autoencoder")[0].draw().steps]
    assert shapes == [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]


@pytest.mark.parametrize("name", few(SMALL, 3))
def test_built_models_are_exact(name: str) -> None:
    """Every tensor equals onnxruntime's, and the machine counts the MACs that the list states."""
    result = accelsim.run(model(name), accelsim.Arch(array=(32, 32)))
    assert_sound(result)
    figures = Figures.of(find(name)[0].draw())
    assert result.model.macs == figures.macs
    assert sum(layer.placement == "host" for layer in result.layers) == 0
    assert {key: kind.shape for key, kind in model(name).inputs().items()} == figures.inputs


@pytest.mark.parametrize("name", few([name for name in SMALL if name != "decoder-decode"], 2))
def test_activations_use_their_codes(name: str) -> None:
    """Every tensor takes many codes, and few of its elements the highest one, where codes saturate.

    Not so for one decode step on drawn inputs: codes drawn evenly are a wider cache than any that a prefill leaves.
    """
    poor: dict[str, tuple[int, float]] = {}
    seen = []

    def look(step: LayerValues) -> None:
        for tensor, array in step.named_outputs():
            if array.dtype == np.uint8:
                seen.append(tensor)
                different, saturated = len(np.unique(array)), float((array == 255).mean())
                if different < min(16, array.size // 3) or saturated > 0.03:
                    poor[tensor] = different, saturated

    feeds = draw_inputs(model(name).inputs(batch=4), seed=3)
    accelsim.run(model(name), inputs=feeds, check=False, observe=look)
    assert len(seen) > 5
    assert poor == {}


def test_a_decode_step_continues_the_prefill() -> None:
    """Token 128 computed with the cache of 127 has the bits that it has when all 128 are computed at once."""
    tokens = np.random.default_rng(5).standard_normal((1, 128, 768)).astype(np.float32)
    at_once = accelsim.run(model("decoder-prefill"), inputs={"hidden": tokens}, check=False).outputs
    cache_before = {f"past_{kind}": at_once[f"present_{kind}"][:, :, :127] for kind in ("key", "value")}
    step = accelsim.run(model("decoder-decode"), inputs={"hidden": tokens[:, 127:], **cache_before})
    assert_sound(step)
    assert np.array_equal(step.outputs["hidden_out"][0, 0], at_once["hidden_out"][0, 127])
    for kind in ("key", "value"):
        assert np.array_equal(step.outputs[f"present_{kind}"], at_once[f"present_{kind}"])


def test_no_token_sees_a_later_one() -> None:
    """Changing the last token leaves the outputs of all others as they are."""
    tokens = np.random.default_rng(6).standard_normal((1, 128, 768)).astype(np.float32)
    changed = tokens.copy()
    changed[:, -1] = 0.25
    first, second = (
        accelsim.run(model("decoder-prefill"), inputs={"hidden": array}, check=False).outputs["hidden_out"]
        for array in (tokens, changed)
    )
    assert np.array_equal(first[:, :-1], second[:, :-1])
    assert not np.array_equal(first[:, -1], second[:, -1])


@pytest.mark.parametrize("name", ["ds-cnn", "bert-tiny"])
def test_building_again_gives_the_same_bytes(name: str) -> None:
    """A builder is a function of nothing but its sources and packages."""
    assert hashlib.sha256(build(find(name)[0])).digest() == hashlib.sha256(model_bytes(name)).digest()


@pytest.mark.parametrize("name", few(["ds-cnn", "autoencoder", "mobilenetv2", "decoder-prefill"], 1))
def test_the_float_form_is_the_same_network(name: str) -> None:
    """The float form passes onnx's checker and its answers lie where the quantised one's do."""
    import onnxruntime

    data = model_bytes(f"{name}-float")
    onnx.checker.check_model(onnx.load(io.BytesIO(data)), full_check=True)
    assert b"QuantizeLinear" not in data
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 4 for size in value.shape]
        feeds[value.name] = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    expected = session.run(None, feeds)[0]
    (answer, *_) = accelsim.run(model(name), inputs=feeds, check=False).outputs.values()
    assert np.corrcoef(expected.ravel(), answer.ravel())[0, 1] > 0.8
    with pytest.raises(accelsim.UnsupportedModelError, match="float model"):
        accelsim.load(data)


def test_large_models_are_timed_without_values() -> None:
    """ResNet-18 on a machine, time and energy only."""
    result = accelsim.run("models:resnet18", accelsim.Arch(array=(32, 32)), values=False)
    assert result.cycles > 1_814_073_344 / 1024
    assert result.check.verdict == "skipped"


def test_names_are_unique_and_not_files() -> None:
    """Names can follow models: on a command line, and none looks like the float form of another."""
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and not name.endswith("-float") for name in names)
