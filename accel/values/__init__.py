"""Exact integers: what each operator computes, in accumulators of any width. Knows no cycles, no energy, no plans."""
