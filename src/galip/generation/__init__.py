"""Generating images: the call, its inputs, outputs and engines. Needs no torch."""
