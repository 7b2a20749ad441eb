"""Numba kernels against their twins."""
