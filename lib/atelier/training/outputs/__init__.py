"""The files of a run: LoRAs and checkpoints, when they are written, and how many are kept."""
