"""Large offline jobs: prompts by the million into shards."""
