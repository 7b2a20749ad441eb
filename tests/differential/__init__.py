"""Whole models against onnxruntime."""
