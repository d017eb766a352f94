"""Fashion-MNIST: 70,000 pictures of clothes (Xiao, Rasul, Vollgraf) in MNIST's format and under its file names."""

from __future__ import annotations

import os

from gpucnn.datasets.collection import Split
from gpucnn.datasets.idx_collection import IdxCollection, PublishedFile

CLASSES = 10
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# Sizes and hashes of the .gz files: TensorFlow Datasets' url_checksums/fashion_mnist.txt. Hashes of what is inside are
# not published.
COLLECTION = IdxCollection(
    name="fashion_mnist",
    classes=CLASSES,
    files=(
        PublishedFile(
            "train-images-idx3-ubyte",
            (60_000, 28, 28),
            None,
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        PublishedFile(
            "train-labels-idx1-ubyte",
            (60_000,),
            None,
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        PublishedFile(
            "t10k-images-idx3-ubyte",
            (10_000, 28, 28),
            None,
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte",
            (10_000,),
            None,
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    namesakes=frozenset(
        (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        )
    ),
)


def load_data(data_dir: str | os.PathLike[str] | None = None, *, download: bool | None = None) -> tuple[Split, Split]:
    """Read Fashion-MNIST, as Keras's function of this name returns it, and fetch it first where it is missing.

    Its files have MNIST's names, so a folder that holds both sets must hold them in subfolders; MNIST's files are not
    taken for these. A download is accepted
    by the SHA-256 of the ``.gz`` file; files without compression are checked by their structure alone, because no hash
    of them is published.

    Args:
        data_dir: folder that holds the four files, raw or gzip-compressed, itself or in a subfolder ``fashion_mnist``.
            None looks in the folder that ``GPUCNN_DATA_DIR`` names, then in ``datasets`` of gpucnn's cache folder.
        download: as for `gpucnn.datasets.mnist.load_data`.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: uint8 images (60000, 28, 28) and (10000, 28, 28), 0 background to
        255, and uint8 labels (60000,) and (10000,), numbers in `CLASS_NAMES`.

    Raises:
        DataError: as for `gpucnn.datasets.mnist.load_data`.

    Source: https://github.com/zalandoresearch/fashion-mnist; MIT licence.
    """
    return COLLECTION.load(data_dir, download)
