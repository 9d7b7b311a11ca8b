"""Overlays of segments, contact sheets of datasets."""
