"""What onnxruntime does, found out by asking it."""
