"""Where the tensors of entries live: slots of one size, 8-bit features, and a Triton kernel that reads them."""
