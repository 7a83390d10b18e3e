"""Tests of atelier.cli."""
