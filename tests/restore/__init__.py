"""Tests of restores and the output folder."""
