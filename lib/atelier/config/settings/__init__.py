"""The one schema of settings: each with its type, bounds, help and place in the tab."""
