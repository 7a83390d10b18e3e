"""A file per model family: views over borrowed tensors, prompt encoding, noise target, names."""
