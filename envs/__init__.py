"""Environments for Gymnasium and the supervised sequence tasks behind some of them, in NumPy."""
