"""The HTTP routes under /atelier/v1, and the checks that guard them."""
