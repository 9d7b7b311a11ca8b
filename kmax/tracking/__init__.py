"""JSONL events first, MLflow as a mirror of them."""
