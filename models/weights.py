"""Seeded parameters: every tensor has its own generator, so that networks may share some or be drawn in any order."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from accelsim.models.sketch import Parameter

Floats = NDArray[np.float32]

SEED = 20260


def generator(network: str, name: str) -> np.random.Generator:
    """Return the generator of one tensor of a network."""
    return np.random.default_rng([SEED, zlib.crc32(network.encode()), zlib.crc32(name.encode())])


def draw(network: str, parameter: Parameter) -> Floats:
    """Draw a parameter from a normal distribution: around one for gains, around zero for all others.

    Args:
        network: name that seeds the generator together with the parameter's.
        parameter: shape float32, and its standard deviation; for weights 1 / sqrt(fan-in) keeps the variance of a
            layer's output at that of its input (He et al., ICCV 2015, with the factor of ReLU left to normalisation).
    """
    values = generator(network, parameter.name).standard_normal(parameter.shape, np.float32)
    values *= np.float32(parameter.spread)
    if parameter.kind == "gain":
        values += np.float32(1.0)
    return values
