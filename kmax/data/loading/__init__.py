"""Batches for training and inference, read by worker processes."""
