"""Runs by name: their files and families, their identity, and the provenance of results."""
