"""SeqIO tasks of the study: data, text formats, metrics, vocabulary and languages.

This package does not import TensorFlow: names, languages, metrics and the vocabulary are plain
Python. `import seqio_tasks.registry` registers the tasks with SeqIO, and imports TensorFlow.
"""
