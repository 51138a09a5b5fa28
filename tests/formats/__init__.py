"""Tests of formats 2, 3 and 4, and `qubes.xml`."""
