"""The routes under /atelier/v1 and what guards them."""
