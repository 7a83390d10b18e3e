"""Tests of atelier.jobs."""
