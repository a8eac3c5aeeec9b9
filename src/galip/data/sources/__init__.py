"""Where captioned pictures come from: one module per source, each of which lists its items for `galip data prepare`."""
