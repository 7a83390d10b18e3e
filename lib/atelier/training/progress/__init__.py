"""Where a run is: losses, the calendar of steps, and the states that it goes on from."""
