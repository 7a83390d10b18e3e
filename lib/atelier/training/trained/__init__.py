"""What is trained: adapters beside the base, or a copy of the whole model."""
