"""Tests of atelier.training.device."""
