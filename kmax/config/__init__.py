"""The parameters of every run, dataset and weight file, as typed models of the YAML files in `params/`.

Everything that affects a result is written in those files: fields have no defaults (where a field may be
left out, leaving it out means "not used"). YAML reads `1e-5` as a string, so strings are never taken for
numbers: write `1.0e-5`. `kmax.parameter_files` reads them.
"""

from kmax.config.base import Flavour, Fraction, Name, Parameters, PositiveInt, Sha256, Size
from kmax.config.dataset import Category, Dataset
from kmax.config.input_data import Augmentation, CopyPaste, Data, Preprocessing
from kmax.config.layouts import (
    Ade20k,
    Cityscapes,
    CityscapesFiles,
    CocoInstances,
    CocoPanoptic,
    Generated,
    InstanceFiles,
    MaskFiles,
    OwnAnnotation,
    RawFiles,
    RemoteFile,
    SemanticMasks,
    SplitFiles,
    UnannotatedSplit,
)
from kmax.config.model_arguments import CrossAttention, Model, ModelArguments
from kmax.config.run import Evaluate, Port, Predict, Run
from kmax.config.train import Losses, Sampling, SmallInstances, Train
from kmax.config.weights import Weights, WeightsFile

__all__ = [
    "Ade20k",
    "Augmentation",
    "Category",
    "Cityscapes",
    "CityscapesFiles",
    "CocoInstances",
    "CocoPanoptic",
    "CopyPaste",
    "CrossAttention",
    "Data",
    "Dataset",
    "Evaluate",
    "Flavour",
    "Fraction",
    "Generated",
    "InstanceFiles",
    "Losses",
    "MaskFiles",
    "Model",
    "ModelArguments",
    "Name",
    "OwnAnnotation",
    "Parameters",
    "Port",
    "PositiveInt",
    "Predict",
    "Preprocessing",
    "RawFiles",
    "RemoteFile",
    "Run",
    "Sampling",
    "SemanticMasks",
    "Sha256",
    "Size",
    "SmallInstances",
    "SplitFiles",
    "Train",
    "UnannotatedSplit",
    "Weights",
    "WeightsFile",
]
