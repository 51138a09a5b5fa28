"""Tests of promises that span the packages."""
