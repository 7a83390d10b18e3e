"""Tests of atelier.bench."""
