"""Public objects of a backup: archive, qubes, files and chunks."""
