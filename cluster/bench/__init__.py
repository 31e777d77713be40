"""`stillhouse bench`: what each part of a recipe reaches alone, and what the whole reaches."""
