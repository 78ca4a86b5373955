"""The scan in plain torch, for every dtype and device, with a backward pass written by hand."""
