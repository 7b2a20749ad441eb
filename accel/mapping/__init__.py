"""Which plan: the space of plans, their bounds, the best of a layer and of a network, at prices that are handed in."""
