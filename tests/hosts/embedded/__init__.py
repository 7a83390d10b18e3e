"""Tests of atelier.hosts.embedded."""
