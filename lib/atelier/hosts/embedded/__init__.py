"""A small diffusers WebUI of our own: the trainer's home where no other WebUI is, and the one the tests use."""
