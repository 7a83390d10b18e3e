"""What goes with a report of a fault: versions, card and the last errors, without anything private."""
