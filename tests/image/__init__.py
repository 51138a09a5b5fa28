"""Tests of files inside images."""
