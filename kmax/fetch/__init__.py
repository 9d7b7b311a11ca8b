"""Downloads by http and https: resumed, checked, and published when complete. Safe unpacking of archives."""

from kmax.fetch.transfer import download

__all__ = ["download"]
