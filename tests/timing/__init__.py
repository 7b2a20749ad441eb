"""Tests of cycles and counts against the timing contract."""
