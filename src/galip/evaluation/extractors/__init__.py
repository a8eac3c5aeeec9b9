"""Feature networks: images to vectors."""
