"""How a U-Net and an autoencoder run on a GPU: CUDA graphs of fused layers."""
