"""The losses of kMaX-DeepLab, the Hungarian matching they share, and the criterion that sums them."""

from kmax.losses.criterion import Criterion
from kmax.losses.finite import NonFiniteLossError
from kmax.losses.sampling import Sampler, gumbel_top_k

__all__ = ["Criterion", "NonFiniteLossError", "Sampler", "gumbel_top_k"]
