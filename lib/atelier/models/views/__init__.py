"""Views: diffusers modules whose weights are the tensors of another model, without a copy."""
