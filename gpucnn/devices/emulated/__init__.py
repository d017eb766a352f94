"""The emulated device: kernels compiled with g++, run on NumPy arrays, and checked as compute-sanitizer checks them."""

from gpucnn.devices.emulated.device import EmulatedDevice
from gpucnn.devices.emulated.kernel import EmulatedKernel
from gpucnn.devices.emulated.module import EmulatedModule
from gpucnn.devices.emulated.reports import KINDS, Actor, Place, Report

__all__ = ["KINDS", "Actor", "EmulatedDevice", "EmulatedKernel", "EmulatedModule", "Place", "Report"]
