"""Tests of scrypt and ciphers."""
