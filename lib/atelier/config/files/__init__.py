"""Files that settings come from and go to: their paths, their limits, written whole or not at all."""
