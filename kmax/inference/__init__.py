"""Post-processing, the predictor, and pictures of its maps."""
