"""Panoptic quality, mean IoU, bootstrap intervals."""
