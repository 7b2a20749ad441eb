"""Slow, obvious twins of what the simulator computes."""
