"""Measurements of speed and memory, each engine in processes of its own: what `galip bench` shows."""
