"""Layers, with Keras's names and argument order."""

from gpucnn.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from gpucnn.layers.convolution import Conv2D
from gpucnn.layers.core import Dense, Dropout, Flatten, ZeroPadding2D
from gpucnn.layers.layer import Layer
from gpucnn.layers.normalization import BatchNormalization
from gpucnn.layers.pooling import AveragePooling2D, MaxPool2D, MaxPooling2D, MinPool2D

__all__ = [
    "ELU", "Activation", "AveragePooling2D", "BatchNormalization", "Conv2D", "Dense", "Dropout", "Flatten", "Layer",
    "LeakyReLU", "MaxPool2D", "MaxPooling2D", "MinPool2D", "ReLU", "Softmax", "ZeroPadding2D",
]  # fmt: skip
