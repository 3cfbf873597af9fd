"""Examples and batches of the tiny world, and what is in them."""

import dataclasses

from seqio_tasks import catalogue, data_config
from xfer_jax.data import token_cache

NER, TEXT = "xfer_pocket_ner.en", "xfer_pocket_text.en"
LENGTHS = {"inputs": 64, "targets": 48}
EOS = 1


def config(words) -> data_config.DataConfig:
    """Returns where the tiny world's examples come from, with a vocabulary."""
    return dataclasses.replace(data_config.configured(), vocabulary_file=words.name)


def open_ner(words, name: str = NER, split: str = "train") -> token_cache.Cache:
    return token_cache.open_cache(catalogue.task(name), split, config(words))


def pair(example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(example["inputs"].tolist()), tuple(example["targets"].tolist())


def pairs(batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns the examples that a batch's rows are packed with, without padding."""
    found = []
    columns = (
        batch[name]
        for name in (
            "encoder_input_tokens",
            "encoder_segment_ids",
            "decoder_target_tokens",
            "decoder_segment_ids",
        )
    )
    for inputs, of_inputs, targets, of_targets in zip(*columns, strict=True):
        assert set(of_inputs) - {0} == set(of_targets) - {0} == set(range(1, of_inputs.max() + 1))
        for i in range(1, of_inputs.max() + 1):
            example = inputs[of_inputs == i], targets[of_targets == i]
            found.append(tuple(tuple(part.tolist()) for part in example))
    return found
