"""The whole run: model, inputs, plans, cycles, energy, values, verdict, assembled to a result."""
