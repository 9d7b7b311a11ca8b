"""Cityscapes' own evaluation: average precision of instances and mean IoU."""
