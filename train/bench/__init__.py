"""`sab-agents bench`: the speed of SAB and the environments, always as a ratio to a peer timed in the same run."""
