"""Tar: headers, archives and sparse files. Nothing that is read here is trusted."""
