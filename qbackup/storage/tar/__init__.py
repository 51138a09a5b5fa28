"""Tar: headers, archives and sparse files, read and never believed."""
