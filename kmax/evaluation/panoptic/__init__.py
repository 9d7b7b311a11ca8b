"""Evaluation of panoptic maps: panoptic quality, its error analysis, and the segments that both count."""
