"""Data sets as NumPy arrays: each module's `load_data` returns ``(x_train, y_train), (x_test, y_test)``."""

from gpucnn.datasets import cifar10, digits, fashion_mnist, mnist
from gpucnn.datasets.idx import read_idx, write_idx
from gpucnn.datasets.image_files import image_folder
from gpucnn.datasets.loader import Batches, batch_order
from gpucnn.datasets.preparation import Preparation

__all__ = [
    "Batches", "Preparation", "batch_order", "cifar10", "digits", "fashion_mnist", "image_folder", "mnist", "read_idx",
    "write_idx",
]  # fmt: skip
