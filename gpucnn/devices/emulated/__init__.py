"""The emulated device: kernels compiled with g++, run on NumPy arrays, and checked as compute-sanitizer checks them."""
