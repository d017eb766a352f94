"""Layers, with Keras's names and argument order."""

from gpucnn.layers.convolution import Conv2D
from gpucnn.layers.core import Activation, Dense, Dropout, Flatten, ZeroPadding2D
from gpucnn.layers.layer import Layer
from gpucnn.layers.pooling import AveragePooling2D, MaxPool2D, MaxPooling2D, MinPool2D

__all__ = [
    "Activation", "AveragePooling2D", "Conv2D", "Dense", "Dropout", "Flatten", "Layer", "MaxPool2D", "MaxPooling2D",
    "MinPool2D", "ZeroPadding2D",
]  # fmt: skip
