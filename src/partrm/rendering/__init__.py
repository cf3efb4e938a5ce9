"""Meshes to images (Warp) and Gaussians to images (CPU kernels, gsplat)."""
