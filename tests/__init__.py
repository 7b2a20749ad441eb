"""Tests of accel-sim."""
