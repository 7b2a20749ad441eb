"""Kernels that compute values: accumulators, element-wise loops, reductions. They know no time."""
