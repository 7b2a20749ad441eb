"""onnxruntime, the reference, behind one door: sessions, single nodes, what it says about itself. Decides nothing."""
