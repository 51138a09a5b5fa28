"""The output folder: the only package of a restore that creates files."""
