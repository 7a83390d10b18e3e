"""Tests of atelier.hosts.neo."""
