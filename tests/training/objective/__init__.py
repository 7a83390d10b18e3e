"""Tests of atelier.training.objective."""
