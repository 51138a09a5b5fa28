"""A backup as callers hold it: its qubes, files and chunks."""
