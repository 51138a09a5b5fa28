"""Data behind lost chunks: what a file's format lets be had, and where it belongs."""
