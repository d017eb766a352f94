"""One window of a convolution or pooling, forward and backward, step by step: for learners, and checked."""

from gpucnn.explain.convolution import Convolution
from gpucnn.explain.examples import EXAMPLES
from gpucnn.explain.matrices import read_matrix
from gpucnn.explain.phrases import LANGUAGES
from gpucnn.explain.pooling import Pooling
from gpucnn.explain.trace import Cell, Term, Trace

__all__ = ["EXAMPLES", "LANGUAGES", "Cell", "Convolution", "Pooling", "Term", "Trace", "read_matrix"]
