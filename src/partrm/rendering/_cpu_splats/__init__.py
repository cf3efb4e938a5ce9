"""Rasterization of Gaussians by numba kernels."""
