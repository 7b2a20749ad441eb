"""Which tensors are codes times a scale, wherever a file puts its quantisers."""
