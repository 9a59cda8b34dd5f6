"""Score distillation: from a picture and its cameras to a loss."""
