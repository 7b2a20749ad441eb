"""Kernels of the register-level stepper: every register in every cycle. They know no recurrence."""
