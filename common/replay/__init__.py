"""Replay: shards of compressed chunks, and the rate limiter that couples inserts and samples."""
