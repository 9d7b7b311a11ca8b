"""The evaluate stage of a run, its files, and the comparison of two runs."""
