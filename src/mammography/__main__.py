"""``python -m mammography``."""

from mammography.cli import entry_point

entry_point()
