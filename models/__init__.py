"""Sample models built by scripts in this folder, shipped as files."""

if __name__ != "accelsim.models":
    raise ImportError(
        "import accelsim.models, not the folder models/: the same module under two names would not be equal"
    )
