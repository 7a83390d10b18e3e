"""The demo base: rendered shapes, the classifier that marks them, and the recipe of a small model that draws them."""
