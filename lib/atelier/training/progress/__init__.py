"""The progress of a run: losses, the schedule of steps, and the states to resume from."""
