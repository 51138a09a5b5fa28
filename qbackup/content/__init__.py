"""Files made from verified bytes: decompression, volumes, and the inner archive."""
