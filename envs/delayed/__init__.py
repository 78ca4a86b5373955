"""Environments that test memory and credit for delayed rewards."""
