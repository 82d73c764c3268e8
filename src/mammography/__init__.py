"""Research toolkit for mammograms. Not for diagnosis."""

__version__ = "0.1.0"
