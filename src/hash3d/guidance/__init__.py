"""Score distillation: from an image and its cameras to a loss."""
