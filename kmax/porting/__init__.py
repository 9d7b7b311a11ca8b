"""Weights of other implementations into our models."""
