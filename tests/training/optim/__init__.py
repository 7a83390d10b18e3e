"""Tests of atelier.training.optim."""
