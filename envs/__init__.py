"""Environments and the sequence tasks behind them, in numpy alone."""
