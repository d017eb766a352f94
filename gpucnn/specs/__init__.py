"""Specs: frozen values with every size of one operation. Letters: N batch, H W C input, K R S filters, P Q output."""

from gpucnn.specs.augment import AugmentSpec
from gpucnn.specs.base import ACTIVATIONS, FUSED_ACTIVATIONS, Spec
from gpucnn.specs.batch_norm import BatchNormGradientSpec, BatchNormSpec
from gpucnn.specs.concatenate import ConcatenateSpec
from gpucnn.specs.conv2d import Conv2dSpec
from gpucnn.specs.conv_pool2d import NOT_POSITIVE, ConvPool2dSpec
from gpucnn.specs.elementwise import (
    ActivationSpec,
    ArraySpec,
    BinarySpec,
    CastSpec,
    DropoutSpec,
    ScalarSpec,
    ScaledCastSpec,
)
from gpucnn.specs.linear import LinearCrossEntropySpec, LinearSpec
from gpucnn.specs.matmul import MatmulSpec
from gpucnn.specs.optimizer import AdamSpec, ClipSpec, LossScaleSpec, SgdSpec, SquaredNormSpec
from gpucnn.specs.pad2d import Pad2dSpec
from gpucnn.specs.pool2d import Pool2dSpec
from gpucnn.specs.rows import (
    ArgmaxSpec,
    BinaryCrossEntropySpec,
    ConfusionSpec,
    CrossEntropySpec,
    GatherSpec,
    MetricsSpec,
    ReduceSpec,
    SoftmaxSpec,
)

__all__ = [
    "ACTIVATIONS",
    "FUSED_ACTIVATIONS",
    "NOT_POSITIVE",
    "ActivationSpec",
    "AdamSpec",
    "ArgmaxSpec",
    "ArraySpec",
    "AugmentSpec",
    "BatchNormGradientSpec",
    "BatchNormSpec",
    "BinaryCrossEntropySpec",
    "BinarySpec",
    "CastSpec",
    "ClipSpec",
    "ConcatenateSpec",
    "ConfusionSpec",
    "Conv2dSpec",
    "ConvPool2dSpec",
    "CrossEntropySpec",
    "DropoutSpec",
    "GatherSpec",
    "LinearCrossEntropySpec",
    "LinearSpec",
    "LossScaleSpec",
    "MatmulSpec",
    "MetricsSpec",
    "Pad2dSpec",
    "Pool2dSpec",
    "ReduceSpec",
    "ScalarSpec",
    "ScaledCastSpec",
    "SgdSpec",
    "SoftmaxSpec",
    "Spec",
    "SquaredNormSpec",
]
