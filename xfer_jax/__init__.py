"""Measures how mT5 carries knowledge from one language to another, and says why.

The engine (`model`, `loss`, `optimizer`, `decoding`, `partitioning`, `checkpoints`, `data`, `train`,
`evaluation`), its configuration (`configuration`) and the command line (`cli`). Importing this
package imports neither JAX nor TensorFlow.
"""

__version__ = "0.1.0"
