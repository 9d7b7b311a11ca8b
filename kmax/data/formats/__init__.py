"""File formats: PNG, JPEG, and the JSON files of COCO."""
