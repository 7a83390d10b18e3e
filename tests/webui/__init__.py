"""Tests that drive a running WebUI, and the measurements made in one."""
