"""From ONNX bytes to the typed integer graph: loading, normalising, recognising, importing. Knows no machine."""

if __name__ != "accelsim.graph":
    raise ImportError(
        "import accelsim.graph, not the folder graph/: the same module under two names would not be equal"
    )
