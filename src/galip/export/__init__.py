"""Networks to graphs that run without torch."""
