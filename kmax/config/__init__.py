"""The parameters of every run and weight file, as typed models of the YAML files in `params/`.

Everything that affects a result is written in those files: fields have no defaults (where a field may be
omitted, omitting it means "not used"). YAML reads `1e-5` as a string, so strings are never taken for
numbers: write `1.0e-5`. `kmax.parameter_files` reads them. Dataset files are `kmax.data.dataset_file`.
"""

from kmax.config.base import Flavour, Fraction, Name, Parameters, PositiveInt, Sha256, Size
from kmax.config.category import Category
from kmax.config.family import Family
from kmax.config.input_data import Augmentation, CopyPaste, Data, Preprocessing
from kmax.config.model_arguments import CrossAttention, Model, ModelArguments
from kmax.config.run import Evaluate, Port, Predict, Run
from kmax.config.train import Losses, Sampling, SmallInstances, Train
from kmax.config.weights import Weights, WeightsFile

__all__ = [
    "Augmentation",
    "Category",
    "CopyPaste",
    "CrossAttention",
    "Data",
    "Evaluate",
    "Family",
    "Flavour",
    "Fraction",
    "Losses",
    "Model",
    "ModelArguments",
    "Name",
    "Parameters",
    "Port",
    "PositiveInt",
    "Predict",
    "Preprocessing",
    "Run",
    "Sampling",
    "Sha256",
    "Size",
    "SmallInstances",
    "Train",
    "Weights",
    "WeightsFile",
]
