"""A run on a Ray cluster: its actors, who supervises them, the board where runs are steered."""
