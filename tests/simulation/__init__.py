"""Whole runs, end to end."""
