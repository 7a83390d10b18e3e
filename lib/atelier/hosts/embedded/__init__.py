"""The embedded host: a small diffusers WebUI of our own, for use without another WebUI and for the tests."""
