"""The backend of a Ray cluster."""
