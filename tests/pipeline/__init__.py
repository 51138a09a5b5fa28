"""Tests of derivation and reading ahead."""
