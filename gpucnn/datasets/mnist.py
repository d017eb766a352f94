"""MNIST: 70,000 hand-written digits (LeCun, Cortes, Burges), read from its four published files."""

from __future__ import annotations

import os

from gpucnn.datasets.idx_collection import IdxCollection, PublishedFile, Split

CLASSES = 10

_COLLECTION = IdxCollection(
    name="mnist",
    classes=CLASSES,
    files=(
        PublishedFile(
            "train-images-idx3-ubyte",
            (60_000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        PublishedFile(
            "train-labels-idx1-ubyte",
            (60_000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        PublishedFile(
            "t10k-images-idx3-ubyte",
            (10_000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte",
            (10_000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)


def load_data(data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Read MNIST from local files, as Keras's function of this name returns it.

    Args:
        data_dir: folder that holds the four files, raw or gzip-compressed, itself or in a subfolder ``mnist``. None
            looks in the folder that ``GPUCNN_DATA_DIR`` names, then in ``datasets`` of gpucnn's cache folder.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: uint8 images (60000, 28, 28) and (10000, 28, 28), 0 background to
        255 ink, and uint8 labels (60000,) and (10000,) from 0 to 9. Subsets in the same format are read as well.

    Raises:
        DataError: files are missing (the message says where they were sought and how to recognise them), damaged,
            swapped, of different lengths, or hold labels above 9.

    Source: http://yann.lecun.com/exdb/mnist; licence CC BY-SA 3.0 as Keras states it.
    """
    return _COLLECTION.load(data_dir)
