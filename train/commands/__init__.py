"""The commands of `sab-agents`: each module parses its arguments, calls what does the work, and prints the outcome."""
