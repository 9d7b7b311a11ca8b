"""COCO's average precision of masks and boxes."""
