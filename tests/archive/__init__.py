"""Tests of backups as callers hold them."""
