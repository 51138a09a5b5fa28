"""Restoring and verifying: what is asked for, where it goes, and what came of it.

Verifying is restoring to nowhere: the same loop, with a writer that writes nothing.
"""
