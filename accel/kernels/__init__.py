"""Numba kernels, compiled by `accelsim.kernels.jit` only; a room calls itself and `numerics`, and no other room."""
