"""Parameters, and the flat buffers that models pack them into."""

from gpucnn.parameters.buffer import ParameterBuffer, pack
from gpucnn.parameters.parameter import Parameter, State

__all__ = ["Parameter", "ParameterBuffer", "State", "pack"]
