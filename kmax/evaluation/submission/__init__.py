"""Archives of predictions for test servers."""
