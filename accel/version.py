"""The version of the distribution, in the one place that setuptools and the program both read."""

__version__ = "0.1.0"
