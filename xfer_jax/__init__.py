"""Measures how mT5 carries knowledge from one language to another, and says why.

The engine (`model`, `loss`, `optimizer`, `decoding`, `partitioning`, `checkpoints`, `data`,
`evaluation`, `train`), its configuration (`configuration`), the command line (`cli`) and the first
look (`quickstart`). Importing this package imports neither JAX nor TensorFlow.
"""

__version__ = "0.1.0"
