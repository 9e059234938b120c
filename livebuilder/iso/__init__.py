"""The disc: planned, written, read back and judged."""
