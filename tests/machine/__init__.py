"""The description of a machine."""
