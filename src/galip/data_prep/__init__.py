"""Sources of captioned images, written into shards."""
