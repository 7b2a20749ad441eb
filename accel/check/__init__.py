"""The verdict against onnxruntime: every tensor compared, distances told, and why an element differs."""
