"""From stored pixel values to the tensor a network sees."""
