"""Running a trained model fast: exact folding, export, and engines behind the pipeline's own call."""
