"""diffusers' modules over tensors that belong to somebody else."""
