"""Large offline jobs: captions by the million into shards."""
