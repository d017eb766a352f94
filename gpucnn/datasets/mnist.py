"""MNIST: 70,000 hand-written digits (LeCun, Cortes, Burges), from its four published files."""

from __future__ import annotations

import os

from gpucnn.datasets.collection import Split
from gpucnn.datasets.idx_collection import IdxCollection, PublishedFile

CLASSES = 10

COLLECTION = IdxCollection(
    name="mnist",
    classes=CLASSES,
    files=(
        PublishedFile(
            "train-images-idx3-ubyte",
            (60_000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        PublishedFile(
            "train-labels-idx1-ubyte",
            (60_000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        PublishedFile(
            "t10k-images-idx3-ubyte",
            (10_000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte",
            (10_000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    namesakes=frozenset(("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",)),
)


def load_data(data_dir: str | os.PathLike[str] | None = None, *, download: bool | None = None) -> tuple[Split, Split]:
    """Read MNIST, as Keras's function of this name returns it, and fetch it first where it is missing.

    Args:
        data_dir: folder that holds the four files, raw or gzip-compressed, itself or in a subfolder ``mnist``. None
            looks in the folder that ``GPUCNN_DATA_DIR`` names, then in ``datasets`` of gpucnn's cache folder.
        download: whether files that are found nowhere are fetched over https, to the subfolder ``mnist`` of the first
            folder looked in, and checked by SHA-256 before they get their names. None: only without `data_dir`.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: uint8 images (60000, 28, 28) and (10000, 28, 28), 0 background to
        255 ink, and uint8 labels (60000,) and (10000,) from 0 to 9. Subsets in the same format are read as well.

    Raises:
        DataError: files are missing and were not fetched (the message says where they were sought, how to recognise
            them and where to put them), damaged, swapped, of different lengths, or hold labels above 9.

    Source: http://yann.lecun.com/exdb/mnist; licence CC BY-SA 3.0 as Keras states it.
    """
    return COLLECTION.load(data_dir, download)
