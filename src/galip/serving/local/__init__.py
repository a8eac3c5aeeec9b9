"""The workers of one machine: a queue and supervised processes."""
