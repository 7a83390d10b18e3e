"""Tests of atelier.hosts.sdnext."""
