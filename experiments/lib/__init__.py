"""What the studies share: run folders, tables, plots, timing."""
