"""Tests of atelier.adapters."""
