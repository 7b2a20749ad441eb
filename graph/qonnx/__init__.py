"""QONNX: its quantisers, and sums of codes with thresholds."""
