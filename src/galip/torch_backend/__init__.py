"""Generating through torch: the diffusers pipeline and compiled forms of it."""
