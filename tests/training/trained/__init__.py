"""Tests of atelier.training.trained."""
