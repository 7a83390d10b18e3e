"""Tests of atelier.training.memory."""
