"""Tests of the project's own pages and tools."""
