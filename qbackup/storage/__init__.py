"""Bytes of a backup as they are stored, and the members among them. Nothing here is trusted."""
