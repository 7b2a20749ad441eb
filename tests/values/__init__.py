"""Exact integers: accumulators, epilogues, zero points, vector operators."""
