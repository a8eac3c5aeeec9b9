"""The eye that chooses a run's best checkpoint: a network that no loss has seen, of the run's own real images."""
