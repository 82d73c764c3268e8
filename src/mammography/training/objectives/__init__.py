"""What a classifier is trained for, one small module each; see `mammography.training.objective`."""
