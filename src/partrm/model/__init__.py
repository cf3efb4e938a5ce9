"""The network: drag embedding, U-Net, heads, checkpoints and bundled weights."""
