"""What can be computed from an embedding set."""
