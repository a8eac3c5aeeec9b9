"""What a reader of results sees: comparisons, pages, plots, flags."""
