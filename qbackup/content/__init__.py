"""Verified bytes → files: decompression, volumes, and the inner archive."""
