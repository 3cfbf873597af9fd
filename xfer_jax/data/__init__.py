"""Batches of tokens: the cache of a task's examples, streams over it, packing."""
