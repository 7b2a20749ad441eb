"""Cycles, by every execution of the contract: recurrence, event model, registers. Knows no values and no energy."""
