"""Exact integers: what each operator computes, in accumulators of any width. Knows no cycles, energy or plans' choice."""
