"""`sab-agents bench`: how fast SAB is, always as a ratio to a peer timed in the same run."""
