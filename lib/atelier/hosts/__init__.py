"""The contract with a WebUI, and one adapter per WebUI."""
