"""What each setting is seen by: in runs, and elsewhere."""
