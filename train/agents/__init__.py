"""Runs of one agent in one environment: their settings, training, and what a trained agent does."""
