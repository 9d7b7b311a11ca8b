"""Evaluation of panoptic maps: panoptic quality, where it is lost, and the segments they are counted from."""
