"""The partial U-Net, and the hook that puts it under an unmodified diffusers model."""
