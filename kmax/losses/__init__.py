"""All loss terms and the Hungarian matching."""
