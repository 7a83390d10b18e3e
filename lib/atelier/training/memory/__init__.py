"""How much memory a run will need, and the plan that makes it fit."""
