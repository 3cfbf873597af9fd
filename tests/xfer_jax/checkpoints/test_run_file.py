"""What a checkpoint says of the run that made it must be readable, and as it was written."""

import pytest

from seqio_tasks.errors import RequestError
from xfer_jax.checkpoints import run_file

BAD_RUNS = (
    "{", "[1]", "null", "", "7", "[" * 100_000, "9" * 5000, '{"first_step": 1.5}',
    '{"first_step": -1}', '{"first_step": 99999999999}', '{"first_step": null}',
    '{"first_step": true}', '{"vocabulary": "abc"}', '{"vocabulary": 3}',
    '{"source": "en\\nsw,en"}', '{"source": ["en"]}', '{"seed": 1e999}', '{"n_shots": -3}',
    '{"data": [[[1]]]}', '{"else": {"a": {"b": {"c": 1}}}}', '{"task": "\\u0000"}',
)  # fmt: skip


@pytest.mark.parametrize("content", BAD_RUNS, ids=lambda text: text[:24])
def test_what_a_run_knows_must_be_readable(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RequestError, match=r"^\S*/run\.json is damaged: [^\n]{1,300}$"):
        run_file.about(tmp_path)


def test_what_a_run_knows_must_be_what_was_written(saved):
    path, _ = saved
    (path / "run.json").write_text('{"first_step": 1000001}')
    with pytest.raises(RequestError, match=r"1000007 is damaged: run\.json is not as it was"):
        run_file.about(path)
