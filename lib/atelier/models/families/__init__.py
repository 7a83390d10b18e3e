"""The families of models, a file each."""
