"""Tests of atelier.hosts.reforge."""
