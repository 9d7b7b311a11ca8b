"""Runs by name: their files and families, who a run is, and what made a result."""
