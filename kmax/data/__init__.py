"""Formats, datasets, transforms, loaders, downloads, and the generated `shapes` dataset."""
