"""The recipe: its models, and what is held against it before anything starts."""
