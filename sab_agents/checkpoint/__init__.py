"""The file format of everything that is saved: an archive of tensors and JSON, never code."""
