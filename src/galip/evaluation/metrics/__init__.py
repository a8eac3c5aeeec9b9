"""One metric per file: features to a number."""
