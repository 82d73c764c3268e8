"""Families of networks, one small module each; each answers for some encoder names."""
