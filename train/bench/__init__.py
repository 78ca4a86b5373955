"""`sab-agents bench`: how fast SAB and the environments are, always as a ratio to a peer timed in the same run."""
