"""The one schema of settings: each setting with its type, bounds, help and place in the tab."""
