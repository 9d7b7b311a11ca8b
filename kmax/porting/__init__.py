"""Checkpoints of other programs into models of this one, with an account of every tensor."""

from kmax.porting.port import port_file, port_run
from kmax.porting.weights import fetch_weights

__all__ = ["fetch_weights", "port_file", "port_run"]
