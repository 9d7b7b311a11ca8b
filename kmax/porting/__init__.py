"""Checkpoints of other programs into models of this one, with an account of every tensor."""

from kmax.porting.port import port_file, port_run, require_model_name
from kmax.porting.state_dicts import convert_tf, convert_torch_reference
from kmax.porting.weight_files import fetch_weights

__all__ = [
    "convert_tf",
    "convert_torch_reference",
    "fetch_weights",
    "port_file",
    "port_run",
    "require_model_name",
]
