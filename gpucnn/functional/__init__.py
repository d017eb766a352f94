"""Differentiable operations: tensors in, tensors out; arrays are accepted and wrapped."""

from gpucnn.functional.activations import (
    activation,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from gpucnn.functional.addition import add
from gpucnn.functional.augmentation import random_erasing, random_rotation, random_window
from gpucnn.functional.concatenation import concatenate
from gpucnn.functional.conv_pool import conv2d_relu_max_pool2d
from gpucnn.functional.convolution import conv1d, conv2d, pad2d
from gpucnn.functional.dense import linear
from gpucnn.functional.losses import binary_cross_entropy, categorical_cross_entropy, cross_entropy
from gpucnn.functional.normalization import batch_norm
from gpucnn.functional.pooling import avg_pool2d, max_pool2d, min_pool2d
from gpucnn.functional.regression import mean_absolute_error, mean_squared_error
from gpucnn.functional.regularization import dropout

__all__ = [
    "activation",
    "add",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "concatenate",
    "conv1d",
    "conv2d",
    "conv2d_relu_max_pool2d",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mean_absolute_error",
    "mean_squared_error",
    "min_pool2d",
    "pad2d",
    "random_erasing",
    "random_rotation",
    "random_window",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
