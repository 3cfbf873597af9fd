"""Programs that a process compiled serve the next one; half-written ones are removed."""

import os
import platform
import subprocess
import sys

from xfer_jax import compilation

SCRIPT = """
import logging, sys
import jax, jax.numpy as jnp
from xfer_jax import compilation
compilation.keep_programs()
compilation.jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
print(float(jax.jit(lambda x: jnp.sin(x).sum())(jnp.arange(4.0))))
print(sum(name == "/jax/compilation_cache/cache_hits" for name in hits) > 0)
"""


def run(folder) -> list[str]:
    environment = {**os.environ, "XFER_CACHE_DIR": str(folder)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_a_program_is_compiled_once_and_a_damaged_one_again(tmp_path):
    first = run(tmp_path)
    assert first[1] == "False"
    assert run(tmp_path) == [first[0], "True"]
    programs = list((tmp_path / "programs").glob("*/*-cache"))
    assert programs
    for path in programs:
        path.write_bytes(path.read_bytes()[:-9])
    assert run(tmp_path) == first  # not one warning, which -W error would make an error
    assert run(tmp_path) == [first[0], "True"]


def test_another_kind_of_processor_has_programs_of_its_own(tmp_path, monkeypatch):
    here = compilation._processor()
    assert compilation._processor() == here
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert compilation._processor() != here
