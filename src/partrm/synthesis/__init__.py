"""Training samples ray-cast from packed meshes, on the device that trains."""
