"""The backend of one machine: a queue and supervised worker processes."""
