"""Augmentation in training: scale, colours, crop, flip, copy-paste, and the resulting targets."""
