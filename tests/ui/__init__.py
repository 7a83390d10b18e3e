"""Tests of atelier.ui."""
