"""Pictures that are drawn for a run: samples during training, class pictures before it."""
