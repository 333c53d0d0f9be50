"""Shared by the studies: run folders, tables, plots, timing."""
