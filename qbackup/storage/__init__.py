"""Stored bytes of a backup, and the members of its outer archive. Nothing here is trusted."""
