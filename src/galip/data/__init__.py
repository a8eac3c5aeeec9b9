"""Captioned images: sources, and the order in which a run visits them."""
