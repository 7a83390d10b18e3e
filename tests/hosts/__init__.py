"""Tests of atelier.hosts."""
