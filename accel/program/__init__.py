"""A graph on a machine: layers, their work, types of plans, addresses. Chooses no plan, times and computes nothing."""
