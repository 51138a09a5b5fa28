"""Repeated runs of a restore: the journal, and the whole files that are kept because of it."""
