"""Layers, with Keras's names and argument order."""

from gpucnn.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from gpucnn.layers.containers import Concatenate, Residual
from gpucnn.layers.convolution import Conv2D, DepthwiseConv2D
from gpucnn.layers.core import Dense, Dropout, Flatten, ZeroPadding2D
from gpucnn.layers.layer import Layer
from gpucnn.layers.normalization import BatchNormalization
from gpucnn.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPool2D,
    MaxPooling2D,
    MinPool2D,
)

__all__ = [
    "ELU",
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "MinPool2D",
    "ReLU",
    "Residual",
    "Softmax",
    "ZeroPadding2D",
]
