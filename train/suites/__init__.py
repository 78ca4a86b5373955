"""Experiments: an engine that runs their cells and reports on them, and one module for each suite."""
