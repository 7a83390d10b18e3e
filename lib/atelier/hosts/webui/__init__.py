"""What the adapters of A1111, Forge, reForge and SD.Next have in common."""
