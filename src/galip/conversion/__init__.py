"""The GALIP authors' checkpoints, both ways."""
