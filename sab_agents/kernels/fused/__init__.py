"""The scan as two Triton kernels for GPUs, one forward and one backward; nothing here imports Triton until it is used."""
