"""Real models and our own, end to end: every tensor equal to onnxruntime, on any machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import accelsim
from tests.harness import assert_sound, sample
from tests.tiers import few

EXACT = (
    "resnet8_cifar10_int8",
    "resnet8_cifar10_qdq_u8s8",
    "resnet8_cifar10_qoperator_u8s8",
    "dscnn_kws_int8",
    "mobilenetv1_025_vww_int8",
    "autoencoder_ad_int8",
    "hello_world_int8",
    "micro_speech_int8",
    "mobilenetv1_025_128_uint8",
    "mobilenetv2_100_224_int8",
    "yamnet256_int8",
    "steel_cnn_qdq_u8s8",
)
ALSO_EXACT = (
    "deeplabv3_mnv2_dm05_uint8",
    "posenet_mobilenetv1_075_353x481_int8",
    "resnet8_cifar10_w4a8_qdq",
    "autoencoder_ad_w4blk32_qdq",
    "textgen_transformer_int8",
    "tfc_1w1a_qonnx",
    "tfc_2w2a_qonnx",
)
LIGHT = (
    "resnet8_cifar10_qdq_u8s8", "resnet8_cifar10_qoperator_u8s8", "dscnn_kws_int8", "mobilenetv1_025_vww_int8",
    "autoencoder_ad_int8", "autoencoder_ad_w4blk32_qdq", "hello_world_int8", "micro_speech_int8", "tfc_1w1a_qonnx",
    "textgen_transformer_int8",
)  # fmt: skip
FLOAT = (
    "autoencoder_ad_float",
    "mnist_cnn_float",
    "mobilenetv1_025_vww_float",
    "resnet8_cifar10_float",
    "ultraface_rfb320_float",
)


@pytest.mark.parametrize("name", few(EXACT + ALSO_EXACT, LIGHT))
def test_real_models_are_exact(shared_models: Path, name: str) -> None:
    """Every tensor and every output of the real models equals onnxruntime's, for every sample given."""
    path = shared_models / f"{name}.onnx"
    model = accelsim.load(path)
    for index in range(len(list(shared_models.glob(f"{name}.in*.npz")))):
        assert_sound(accelsim.run(model, inputs=sample(path, index)))


@pytest.mark.parametrize("name", FLOAT)
def test_float_models_are_told_how_to_quantise(shared_models: Path, name: str) -> None:
    """A float model is refused with its layers and the way to quantise it."""
    with pytest.raises(accelsim.UnsupportedModelError, match=r"float model.*quantize_static") as caught:
        accelsim.load(shared_models / f"{name}.onnx")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("array", few([(1, 1), (5, 3), (16, 16), (128, 128)], [(5, 3), (16, 16)]))
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_values_do_not_depend_on_the_machine(digits: Path, array: tuple[int, int], dataflow: str) -> None:
    """The digits network is exact on every array and dataflow, and its outputs are the same bits."""
    with np.load(digits.with_name("digits_sample.npz")) as archive:
        inputs = dict(archive)
    reference = accelsim.run(digits, inputs=inputs).outputs["logits"]
    result = accelsim.run(digits, accelsim.Arch(array=array, dataflow=dataflow), inputs)
    assert_sound(result)
    assert np.array_equal(result.outputs["logits"].view(np.uint32), reference.view(np.uint32))


def test_digits_are_recognised(digits: Path) -> None:
    """On the held-back digits the simulated network is exact and reaches the accuracy stated in models/README.md."""
    with np.load(digits.with_name("digits_test.npz")) as archive:
        images, labels = archive["image"], archive["labels"]
    result = accelsim.run(digits, inputs={"image": images})
    assert_sound(result)
    assert (result.outputs["logits"].argmax(axis=1) == labels).mean() > 0.98


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_narrow_accumulators_change_the_answer_and_say_so(digits: Path, overflow: str) -> None:
    """Twelve-bit accumulators overflow: events are counted, the verdict is a mismatch with its first tensor named."""
    result = accelsim.run(digits, accelsim.Arch(acc_bits=12, overflow=overflow))
    assert result.check.verdict == "mismatch"
    assert result.check.first_mismatch is not None
    assert sum(layer.acc.overflows for layer in result.layers if layer.acc) > 0


@pytest.mark.parametrize("zp_mode", ["fold", "subtract"])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_the_width_called_safe_is_safe_and_tight(digits: Path, overflow: str, zp_mode: str) -> None:
    """With the reported width nothing overflows and the run is exact; with one bit less something overflows."""
    machine = accelsim.Arch(overflow=overflow, zp_mode=zp_mode)
    needed = max(layer.acc.min_safe_bits for layer in accelsim.run(digits, machine).layers if layer.acc)
    assert_sound(accelsim.run(digits, machine.evolve(acc_bits=needed)))
    narrower = accelsim.run(digits, machine.evolve(acc_bits=needed - 1))
    assert sum(layer.acc.overflows for layer in narrower.layers if layer.acc) > 0


def test_a_run_without_values_has_the_same_time_and_energy(digits: Path) -> None:
    """Time and energy do not depend on values."""
    model = accelsim.load(digits)
    full, dry = accelsim.run(model), accelsim.run(model, values=False)
    assert (dry.cycles, dry.energy_pj, dry.check.verdict) == (full.cycles, full.energy_pj, "skipped")
    assert dry.outputs == {}
