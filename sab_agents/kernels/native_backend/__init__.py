"""The scan and its relatives with the native kernel, C++ for float32 on the CPU: all that knows the extension."""
