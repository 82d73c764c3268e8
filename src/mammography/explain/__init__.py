"""Where a network looks, shown on the image."""
