"""Checkpoints of this tool, of T5X and of Hugging Face: read, written, converted."""
