"""Tests of atelier.demo."""
