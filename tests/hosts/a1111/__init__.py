"""Tests of atelier.hosts.a1111."""
