"""Predicts the memory of a run, and plans the memory savings that make it fit."""
