"""Tests of post-training quantisation."""
