"""What runs leave and others bring: tables and predictions, read without JAX."""
