"""mT5 in JAX: the model, its loss, decoding, optimizer and partitioning."""
