"""`python -m xfer_jax.cli` is `xfer-jax`."""

import sys

from xfer_jax.cli.main import main

sys.exit(main())
