"""Reads the results of runs and of users, tables and predictions, without JAX."""
