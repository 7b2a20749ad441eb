"""Operators drawn for tests."""
