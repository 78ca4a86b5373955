"""All figures, by matplotlib."""
