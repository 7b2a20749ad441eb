"""Tests of single functions and kernels."""
