"""Programs that a process compiled serve the next one; half-written ones are removed."""

import os
import platform
import subprocess
import sys
import types

import pytest

from seqio_tasks.errors import RequestError
from xfer_jax.runtime import compilation

SCRIPT = """
import logging, sys
import jax, jax.numpy as jnp
from xfer_jax.runtime import compilation
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


@pytest.mark.slow
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


FLIPS = """
import pathlib, random, sys, warnings
import jax, jax.numpy as jnp
from xfer_jax.runtime import compilation
compilation.keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
f = lambda x: jnp.sin(x).sum()
expected = jax.jit(f)(jnp.arange(4.0))
rng = random.Random(0)
warnings.simplefilter("ignore")  # JAX says that it compiles anew
for i in range(20):
    for path in pathlib.Path(jax.config.jax_compilation_cache_dir).glob("*-cache"):
        content = bytearray(path.read_bytes())
        place = rng.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        assert not compilation._is_whole(bytes(content)), (path, place)
    jax.clear_caches()
    assert jax.jit(f)(jnp.arange(4.0)) == expected
"""


@pytest.mark.slow
def test_a_flipped_bit_is_never_run_even_where_zstd_is_installed(tmp_path):
    # what JAX would take instead of zlib: it packs without a checksum
    (tmp_path / "zstandard.py").write_text(
        "class ZstdCompressor:\n    def compress(self, data): return data\n"
        "class ZstdDecompressor:\n    def decompress(self, data): return data\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "XFER_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", FLIPS], env=environment, timeout=120, check=True)
    programs = list((tmp_path / "programs").glob("*/*-cache"))
    assert programs
    assert all(path.name.startswith("jit_") for path in programs)


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XFER_CACHE_DIR", str(tmp_path / "file"))
    unset = types.SimpleNamespace(jax_compilation_cache_dir=None)  # other tests have set it
    monkeypatch.setattr(compilation, "jax", types.SimpleNamespace(config=unset))
    with pytest.raises(RequestError, match="XFER_CACHE_DIR names another"):
        compilation.keep_programs()


def test_another_kind_of_processor_has_programs_of_its_own(tmp_path, monkeypatch):
    here = compilation._processor()
    assert compilation._processor() == here
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert compilation._processor() != here
