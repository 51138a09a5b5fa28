"""Tests of bytes of the backup and members of its archive."""
