"""Tests of atelier.training."""
