"""Label-table dialects, one small module each."""
