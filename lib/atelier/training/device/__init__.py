"""How a step uses the device: precision, memory savings, streaming of blocks, and turns with the WebUI."""
