"""A student leaves as a file: written, run in its own runtime, scored by play."""
