"""Pictures for people: overlays of segments, contact sheets of datasets."""
