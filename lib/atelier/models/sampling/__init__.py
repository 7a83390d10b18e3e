"""Draws pictures with a model's modules, without the WebUI (for samples and previews)."""
