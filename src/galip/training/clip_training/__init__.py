"""A small CLIP trained on the captioned images of one folder."""
