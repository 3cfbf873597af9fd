"""SeqIO tasks of the study: data, text formats, metrics, vocabulary and languages.

Importing this package imports no TensorFlow: names, languages, metrics and the vocabulary are plain
Python. `import seqio_tasks.registry` registers the tasks with SeqIO (and imports TensorFlow).
"""
