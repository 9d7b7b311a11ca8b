"""The generated `shapes` dataset."""
