"""Layouts of datasets on disk, and their conversion to COCO panoptic format."""
