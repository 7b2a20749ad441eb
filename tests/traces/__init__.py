"""Traces, read back."""
