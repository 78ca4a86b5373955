"""Gymnasium's vector environments as stable-baselines3's, and the wrappers for them."""
