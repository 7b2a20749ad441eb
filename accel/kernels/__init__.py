"""Numba kernels. All of them are compiled through `accelsim.kernels.jit`, whose cache is keyed by their sources."""
