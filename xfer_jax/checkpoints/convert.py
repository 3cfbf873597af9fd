"""Converts a checkpoint to another format, a few arrays at a time, and prints its contents."""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import glob
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from seqio_tasks import files
from seqio_tasks.errors import RequestError, RunError
from xfer_jax.checkpoints import (
    checksums,
    huggingface,
    locations,
    run_file,
    store,
    t5x_legacy,
    t5x_orbax,
)
from xfer_jax.checkpoints.arrays import MOMENTS, TARGET, Contents, Index, Stored, is_remote, reason
from xfer_jax.mt5 import model
from xfer_jax.runtime import progress

FORMS = {
    "native": "this tool's format: Orbax, with run.json",
    "t5x": "T5X's current format: Orbax",
    "t5x-legacy": "T5X's older format, of the public mT5 checkpoints: zarr and msgpack",
    "hf": "Hugging Face's MT5ForConditionalGeneration: safetensors, or .bin to read",
}
_OPTIMIZER = "optimizer state"
_UNFINISHED = ".converting"  # suffix of an unfinished folder


def convert(
    source: str,
    destination: str | None,
    to: str | None,
    came_from: str | None = None,
    step: int | None = None,
) -> Path | None:
    """Converts a checkpoint and prints its contents; without a destination only prints.

    Args:
      source: a checkpoint of any format, or a run's folder; local or gs://.
      destination: the folder of the new checkpoint; except for `hf`, a folder checkpoint_<step> is
        made inside it if it has no such name itself.
      to: one of FORMS.
      came_from: the required format of the source, if any; `t5x` allows both formats of T5X.
      step: the step of the new checkpoint; by default that of the source, or 0.

    Returns:
      The new checkpoint.

    Raises:
      RequestError: the source is damaged or not an mT5, or the destination exists.
      RunError: the destination's disk is full or fails. An error leaves no files.
    """
    location = locations.locate(source)
    with checksums.verified(location) as finish:
        contents = store.read(location)
        if came_from not in (None, contents.form, contents.form.removesuffix("-legacy")):
            raise RequestError(
                f"{contents.location} is {contents.form} ({FORMS[contents.form]}), not {came_from}"
            )
        config = infer_config(contents)
        check(contents, config)
        report = f"read {contents.location}: {contents.form}, step {contents.step}"
        report += f"; {contents.note}" if contents.note else ""
        if not checksums.has(location):
            report += f"; it has no {checksums.SUMS_FILE} to detect damage"
        final = None
        with contextlib.closing(_Ledger(contents)) as ledger:
            if destination is None:
                for array in ledger.arrays.values():
                    array.read(())
                ledger.wait()
            else:
                assert to is not None, "the command line asks for both"
                step = contents.step if step is None else step
                final = _final(destination, to, step, location)
                made = dataclasses.replace(contents, step=step, arrays=ledger.arrays)
                with _whole(final) as folder:
                    _write(made, config, to, folder)
                    ledger.wait()
                    finish()
                    checksums.write(folder)
                report += f"\nwrote {final}: {to}{_fate(contents, to, step)}"
    progress.say(f"{ledger.table(config)}\n{report}")
    return final


def _fate(contents: Contents, to: str, step: int) -> str:
    """Returns a remark on the step and the optimizer state of the new checkpoint."""
    has = bool(contents.part(MOMENTS))
    if to == "hf":
        dropped = f"; the {_OPTIMIZER} and the step are left out, the format has none"
        return dropped if has else ""
    return f", step {step}" + ("" if has else f"; with a fresh {_OPTIMIZER}: the source has none")


def _final(destination: str, to: str, step: int, source: str | Path) -> Path:
    """Returns the folder of the new checkpoint.

    Raises:
      RequestError: it exists, is inside the source, or has another step in its name.
    """
    if is_remote(destination):
        raise RequestError(f"{destination} is remote: choose a local folder to write to")
    final = files.absolute(destination)
    if to != "hf":
        named = locations.step_of(final.name)
        if named is not None and named != step:
            raise RequestError(
                f"{final} has step {named} in its name, but the checkpoint is at step {step}:"
                " rename it, or set --step"
            )
        final = final if named is not None else final / f"checkpoint_{step}"
    if os.path.lexists(final):
        raise RequestError(f"{final} exists; remove it or choose another destination")
    if not is_remote(source) and Path(os.path.realpath(source)) in _resolved(final).parents:
        raise RequestError(f"{final} is inside the source checkpoint; choose another destination")
    return final


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _whole(final: Path) -> Iterator[Path]:
    """Yields a temporary folder, which gets its final name after the body; an error removes it.

    Raises:
      RequestError: the folder cannot be made, or another process has made it.
      RunError: it cannot be written.
    """
    added = [folder for folder in final.parents if not os.path.exists(folder)]
    temporary, held = None, None
    try:
        try:
            if os.path.lexists(final.parent) and not final.parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            final.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(final)
            temporary, held = _begin(final)
        except OSError as error:
            raise files.refusal(error, f"{final} cannot be made") from None
        try:
            yield temporary
            if os.path.lexists(final):
                raise FileExistsError
            temporary.rename(final)  # fails if another process has made the checkpoint
            checksums.sync_folder(final.parent)
        except RequestError:  # of the source
            raise
        except (OSError, ValueError) as error:  # TensorStore's are ValueErrors
            if os.path.lexists(final):
                raise RequestError(f"{final} exists: another process has just made it") from None
            raise RunError(f"{final} cannot be written: {reason(error)}") from error
    except BaseException:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in added:
            with contextlib.suppress(OSError):  # another process may use it
                folder.rmdir()
        raise
    finally:
        if held is not None:
            os.close(held)


def _begin(final: Path) -> tuple[Path, int | None]:
    """Makes and locks a temporary folder with an unpredictable name.

    Returns:
      The folder, and the descriptor of the lock; None if the file system has no locks.
    """
    for _ in range(3):  # before the lock, another process may remove the folder
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(6)}{_UNFINISHED}")
        temporary.mkdir()
        held = _lock(temporary)
        if held is not None and temporary.exists():
            return temporary, held
        if held is not None:
            os.close(held)
    temporary.mkdir(exist_ok=True)
    return temporary, None


def _lock(folder: Path) -> int | None:
    """Locks a folder until this process ends.

    Returns:
      The descriptor of the lock; None if another process has it, or it is not a folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(final: Path) -> None:
    """Removes the temporary folders of killed conversions to the same destination."""
    for folder in final.parent.glob(f".{glob.escape(final.name)}.*{_UNFINISHED}"):
        held = _lock(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _write(contents: Contents, config: model.Config, to: str, folder: Path) -> None:
    if to == "hf":
        huggingface.write(contents, config, folder)
        return
    if not contents.part(MOMENTS):
        contents = dataclasses.replace(contents, arrays=contents.arrays | _no_moments(config))
    if to == "t5x-legacy":
        t5x_legacy.write(contents, folder)
        return
    t5x_orbax.write(contents, folder)
    if to == "native":
        about = run_file.about(contents.location)
        text = json.dumps(about, indent=1, sort_keys=True)
        (folder / run_file.RUN_FILE).write_text(text, encoding="utf-8")


@functools.cache
def _shapes(config: model.Config) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of every array of a model's checkpoint, by name."""
    names = flatten_dict(store.shapes(config), sep="/")
    return {name: leaf for name, leaf in names.items() if name.startswith((TARGET, MOMENTS))}


def _no_moments(config: model.Config) -> dict[str, Stored]:
    """Returns a new state of Adafactor, because T5X cannot restore a checkpoint without one."""

    def zeros(leaf: jax.ShapeDtypeStruct) -> Stored:
        dtype = np.dtype(leaf.dtype)
        return Stored(leaf.shape, dtype, lambda index: np.zeros(leaf.shape, dtype)[index])

    every = _shapes(config)
    return {name: zeros(leaf) for name, leaf in every.items() if name.startswith(MOMENTS)}


# --- Contents -------------------------------------------------------------------------------------


def infer_config(contents: Contents) -> model.Config:
    """Returns the sizes of the mT5 in a checkpoint.

    Raises:
      RequestError: an array that shows the sizes is missing.
    """
    shapes = {name.removeprefix(TARGET): x.shape for name, x in contents.part(TARGET).items()}
    layer = "layers_0/attention/query/kernel"
    needed = (
        "token_embedder/embedding",
        "encoder/relpos_bias/rel_embedding",
        f"encoder/{layer}",
        "encoder/layers_0/mlp/wi_0/kernel",
    )
    missing = [name for name in needed if len(shapes.get(name, ())) != 2 or 0 in shapes[name]]
    if missing:
        raise RequestError(
            f"{contents.location} is not an mT5: it has no {TARGET}{f', no {TARGET}'.join(missing)}"
        )
    vocab_size, emb_dim = shapes["token_embedder/embedding"]
    heads = shapes["encoder/relpos_bias/rel_embedding"][0]
    layers = {
        stack: max(1, huggingface.count_layers(contents.location, shapes, f"{stack}/layers_"))
        for stack in ("encoder", "decoder")
    }
    return model.Config(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=heads,
        head_dim=shapes[f"encoder/{layer}"][1] // heads,
        mlp_dim=shapes["encoder/layers_0/mlp/wi_0/kernel"][1],
        num_encoder_layers=layers["encoder"],
        num_decoder_layers=layers["decoder"],
    )


def check(contents: Contents, config: model.Config) -> None:
    """Checks that a checkpoint is a complete mT5 of these sizes, with or without moments.

    Raises:
      RequestError: arrays are missing, unknown, or of another shape; the message lists them.
    """
    wanted = _shapes(config)
    if not contents.part(MOMENTS):
        wanted = {name: leaf for name, leaf in wanted.items() if name.startswith(TARGET)}
    store.check_fits(
        contents.location,
        {name: array.shape for name, array in contents.arrays.items()},
        {name: leaf.shape for name, leaf in wanted.items()},
    )


class _Ledger:
    """Gives access to a checkpoint's arrays, and records the hash of each one that is read."""

    def __init__(self, contents: Contents):
        self._contents = contents
        self._digests: dict[str, Future[bytes]] = {}
        self._beside = ThreadPoolExecutor(1)  # hashes an array while it is being written
        self._last: Future[bytes] | None = None
        self.arrays = {
            name: self._watched(name, array.as_float32()) for name, array in contents.arrays.items()
        }
        total = sum(array.nbytes for array in self.arrays.values())
        self._bar = progress.Bytes("convert", total)

    def _watched(self, name: str, array: Stored) -> Stored:
        def read(index: Index) -> np.ndarray:
            self.wait()  # so that only one array is in memory
            values = np.ascontiguousarray(array.read(()))
            self._last = self._digests[name] = self._beside.submit(self._digest_of, name, values)
            self._bar.advance(values.nbytes)
            return values[index]

        return Stored(array.shape, array.dtype, read)

    def _digest_of(self, name: str, values: np.ndarray) -> bytes:
        with np.errstate(invalid="ignore"):  # infinity - infinity
            total = values.sum(dtype=np.float64)
        if not np.isfinite(total):
            store.refuse_not_finite(self._contents.location, [name])
        return hashlib.sha256(values.data).digest()

    def wait(self) -> None:
        """Waits for the hash of the last array that was read.

        Raises:
          RequestError: the array contains NaN or infinity.
        """
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Ends the thread and the progress bar."""
        self._beside.shutdown()
        self._bar.close()

    def table(self, config: model.Config) -> str:
        """Returns a table of sizes and hashes; hashes are the same in all formats and dtypes."""
        parts: dict[str, list[str]] = {}
        for name in sorted(self._digests):
            parts.setdefault(_part(name), []).append(name)
        moments = parts.pop(_OPTIMIZER, [])
        parts["all parameters"] = sorted(name for names in parts.values() for name in names)
        parts |= {_OPTIMIZER: moments} if moments else {}
        rows = [("part", "arrays", "parameters", "dtype", "bytes", "sha256")]
        for part, names in parts.items():
            arrays = [self._contents.arrays[name] for name in names]
            rows.append(
                (
                    part,
                    f"{len(arrays)}",
                    f"{sum(math.prod(array.shape) for array in arrays):,}",
                    "/".join(sorted({str(array.dtype) for array in arrays})),
                    f"{sum(array.nbytes for array in arrays):,}",
                    self._digest(names),
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        align = "<>><><"
        lines = [
            "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(row, align, widths, strict=True))
            for row in rows
        ]
        return "\n".join([_describe(config), *(line.rstrip() for line in lines)])

    def _digest(self, names: Iterable[str]) -> str:
        whole = hashlib.sha256()
        for name in names:
            shape = "x".join(map(str, self._contents.arrays[name].shape))
            whole.update(f"{name} {shape} ".encode() + self._digests[name].result())
        return whole.hexdigest()


def _part(name: str) -> str:
    if name.startswith(MOMENTS):
        return _OPTIMIZER
    top, *rest = name.removeprefix(TARGET).split("/")
    return "decoder/logits_dense" if rest[:1] == ["logits_dense"] else top


def _describe(config: model.Config) -> str:
    return (
        f"mT5 of {config.vocab_size:,} rows x {config.emb_dim}, {config.num_heads} heads of"
        f" {config.head_dim}, MLP {config.mlp_dim}, {config.num_encoder_layers} +"
        f" {config.num_decoder_layers} layers"
    )
