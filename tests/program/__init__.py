"""Layers on a machine, and their plans."""
