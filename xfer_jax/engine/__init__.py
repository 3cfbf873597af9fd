"""What is done with a model: training, evaluation, prediction, probes, retrieval."""
