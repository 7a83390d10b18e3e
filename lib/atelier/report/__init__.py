"""Text for a bug report: versions, card and the last errors, without anything private."""
