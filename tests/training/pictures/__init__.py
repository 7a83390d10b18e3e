"""Tests of atelier.training.pictures."""
