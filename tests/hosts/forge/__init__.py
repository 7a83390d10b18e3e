"""Tests of atelier.hosts.forge."""
