"""Unlocking of a backup: its header, or a replacement for the header, is authenticated."""
