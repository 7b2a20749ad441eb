"""A model under test: bit-exact against onnxruntime, within a budget of cycles and one of energy."""

import pytest

MODEL = "../../models/digits_int8.onnx"  # relative to this file, or to pytest's root folder


def test_my_model(accel_sim):
    result = accel_sim(MODEL, array="16x16")
    result.assert_exact()
    result.assert_cycles(at_most=20_000)
    result.assert_energy_uj(at_most=25)


@pytest.mark.accel_sim(MODEL, array="8x8", cycles=40_000, energy_uj=40)
def test_my_model_on_a_smaller_array():
    """The marker does all the work."""


def test_accumulators_of_24_bits_are_enough(accel_sim):
    accel_sim(MODEL, acc_bits=24, inputs="../../models/digits_sample.npz").assert_no_overflow()


def test_nothing_changed_since_it_was_recorded(accel_sim):
    accel_sim.verify("golden", energy_tolerance=0.01)
