"""Training: the objective as formulas, one typed configuration, the loop, checkpoints that lose nothing."""
