"""Random quantised graphs against onnxruntime: one integer seed, one graph; failures are shrunk and saved."""
