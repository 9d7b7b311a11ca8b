"""kMaX-DeepLab (k-means Mask Transformer, ECCV 2022) in PyTorch, and the pipeline around it."""
