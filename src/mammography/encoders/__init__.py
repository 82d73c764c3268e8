"""Networks that turn an image into a feature vector, and their weights."""
