"""The graph that onnxruntime executes for the user's own file, and the sizes of a run."""
