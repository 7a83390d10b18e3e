"""Tests of atelier.data."""
