"""A small model for tests."""

import kmax
from kmax.model.kmax import KMaX


def tiny(**changes) -> KMaX:
    arguments = {"num_classes": 8, "image_size": (129, 129), "num_clusters": 16} | changes
    return kmax.create_model("kmax_tiny", **arguments)
