"""Restoring and verifying: the files that are asked for, their places, and the results.

Verifying is the same loop as restoring, with a writer that writes nothing.
"""
