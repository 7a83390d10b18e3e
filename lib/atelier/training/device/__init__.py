"""How a step lies on the device: precision, turns with the host, streaming, what saves memory."""
