"""Tests of reading other programs' files."""
