"""Tests of atelier.hosts.shared."""
