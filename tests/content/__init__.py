"""Tests of filters and the inner archive."""
