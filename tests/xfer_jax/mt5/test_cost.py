"""How many micro-batches a batch is cut into."""

import pytest

from xfer_jax.mt5 import cost, model

BASE = model.Config(
    emb_dim=768, num_heads=12, mlp_dim=2048, num_encoder_layers=12, num_decoder_layers=12
)
ROW = (1024, 128)


@pytest.mark.parametrize("gib", [16, 40, 80, 141])
@pytest.mark.parametrize("rows", [1, 8, 128, 1024])
def test_micro_batches_are_as_few_as_fit(rows, gib):
    memory = gib * 2**30
    parts = cost.microbatches(BASE, rows, *ROW, memory)
    assert parts is not None

    def needed(parts: int) -> float:
        sums = 4 * cost.parameters(BASE) if parts > 1 else 0
        return cost.training_bytes(BASE, max(rows / parts, 1), *ROW) + sums

    assert needed(parts) <= 0.9 * memory
    assert parts == 1 or needed(parts // 2) > 0.9 * memory


def test_a_row_that_does_not_fit_is_said():
    assert cost.microbatches(BASE, 64, *ROW, 4 * 2**30) is None
