"""The demo base: rendered shapes, a classifier that recognises them, and a small model that draws them."""
