"""Matrices to explain where a user gives none: those of the source material's figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """Matrices as text, see `read_matrix`.

    Attributes:
        input: of the operation.
        filter: of a convolution; "" for poolings.
        output_gradient: for the backward pass.
    """

    input: str
    filter: str
    output_gradient: str


EXAMPLES = {
    "image": Example("1,1,1,0,0;0,1,1,1,0;0,0,1,1,1;0,0,1,1,0;0,1,1,0,0", "1,0,1;0,1,0;1,0,1", "1,2,3;4,5,6;7,8,9"),
    "asymmetric": Example(
        "1,1,1,0,0;0,1,1,1,0;0,0,1,1,1;0,0,1,1,0;0,1,1,0,0", "1,2,0;0,1,0;0,0,3", "1,2,3;4,5,6;7,8,9"
    ),
    "sequence": Example("1,2,3,4,5", "10,20,30", "1,10,100"),
    "pooling": Example("1,1,2,4;5,6,7,8;3,2,1,0;1,2,3,4", "", "1,2;3,4"),
}
"""A 5x5 image with a symmetric filter and with one that tells convolution from cross-correlation; a sequence; a 4x4
image that is pooled."""
