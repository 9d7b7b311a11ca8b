"""The prepare stage: one canonical form for all datasets, and the checks on the way."""
