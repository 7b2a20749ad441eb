"""Models of our own: samples trained by scripts and shipped as files, and networks that are built when asked for."""

if __name__ != "accelsim.models":
    raise ImportError(
        "import accelsim.models, not the folder models/: the same module under two names would not be equal"
    )
