"""Environments and the sequence tasks behind them, in numpy and for Gymnasium."""
