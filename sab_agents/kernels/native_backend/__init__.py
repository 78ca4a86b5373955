"""The scan and its relatives in compiled C++, for float32 on a CPU: everything that knows the extension."""
