"""The engine that fills an embedding set, and the set on disk."""
