"""Recorded runs, verified, and the pytest plugin."""
