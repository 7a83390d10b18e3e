"""What a run trains: adapters on the borrowed base model, or a copy of the whole model."""
