"""Tests of atelier.training.progress."""
