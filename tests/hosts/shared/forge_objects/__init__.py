"""Tests of atelier.hosts.shared.forge_objects."""
