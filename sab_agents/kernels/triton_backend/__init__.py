"""The scan as two Triton kernels for GPUs, forward and backward; Triton is imported when one is first needed."""
