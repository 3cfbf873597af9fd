"""What all tests share: the user's own caches are neither read nor written."""

import os

import pytest

# Most of the tests' time goes into compiling small programs; unoptimised, that takes half of it.
# Only set where nothing is: XLA_FLAGS="" runs the tests on the code that users run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """A cache folder of this session's own, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("xfer-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFER_CACHE_DIR", str(folder))
        yield folder
