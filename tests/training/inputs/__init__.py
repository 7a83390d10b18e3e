"""Tests of atelier.training.inputs."""
