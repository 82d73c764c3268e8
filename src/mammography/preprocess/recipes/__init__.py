"""The named recipes, one small module each."""
