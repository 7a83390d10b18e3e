"""Tests of atelier.config."""
