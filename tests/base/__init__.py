"""Tests of errors, limits and names."""
