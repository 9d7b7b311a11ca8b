"""Panoptic quality, average precision, mean IoU, bootstrap intervals."""
