"""A policy: its specification, its network, how it is saved, and how it is run for acting."""
