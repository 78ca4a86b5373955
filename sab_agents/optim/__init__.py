"""Parameters side by side in one vector, and the optimisers that step along it."""
