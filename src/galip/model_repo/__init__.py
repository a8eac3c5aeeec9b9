"""A model folder: its format, its index, and where models are kept. Needs no torch."""
