"""Tests of atelier.models."""
