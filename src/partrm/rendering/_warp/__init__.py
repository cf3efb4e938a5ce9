"""Ray casting of meshes by Warp kernels."""
