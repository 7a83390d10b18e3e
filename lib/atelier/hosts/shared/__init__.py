"""What the adapters of several WebUIs have in common."""
