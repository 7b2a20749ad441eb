"""Kernels of the timing recurrence: array, loads, stores, streams. They know no values."""
