"""Files by URL: http and https only, redirects too; whole and checked, or continued by the next call."""

from kmax.fetch.transfer import download

__all__ = ["download"]
