"""From a result to something that people and scripts read."""

if __name__ != "accelsim.reports":
    raise ImportError(
        "import accelsim.reports, not the folder reports/: the same module under two names would not be equal"
    )
