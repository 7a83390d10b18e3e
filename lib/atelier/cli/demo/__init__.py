"""What the demo command draws, and its comparison of ways to train a whole model."""
