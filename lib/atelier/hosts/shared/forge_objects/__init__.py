"""Models kept as `forge_objects`, as Forge and reForge do: what they are, their weights, places, LoRAs and loan."""
