"""Which checkpoint counts: against a search through all of them."""

import json
import random

import pytest

from seqio_tasks.errors import RequestError
from xfer_jax import selection

EN, SW = "xfer_panx.en", "xfer_panx.sw"
SCORES = {EN: {200: 70.0, 400: 80.0, 600: 79.0}, SW: {200: 50.0, 400: 40.0, 600: 48.0, 700: 99.0}}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("last", {EN: 600, SW: 600}),
        ("source", {EN: 400, SW: 400}),
        ("mean", {EN: 600, SW: 600}),
        ("each_target", {EN: 400, SW: 200}),
    ],
)
def test_each_rule_chooses_its_best_step(rule, expected):
    assert selection.choose(SCORES, rule, EN) == expected


def test_of_equally_good_steps_the_first_is_chosen():
    scores = {EN: {3: 50.0, 1: 50.0, 2: 50.0}}
    for rule in ("source", "mean", "each_target"):
        assert selection.choose(scores, rule, EN) == {EN: 1}


def test_the_best_come_first_whatever_the_scores():
    rng = random.Random(0)
    for _ in range(50):
        steps = rng.sample(range(1, 100), 6)
        scores = {name: {step: rng.randrange(4) for step in steps} for name in (EN, SW)}
        means = {step: sum(of[step] for of in scores.values()) for step in steps}
        found = [min(of) for of in selection.ranked(scores, "mean")]
        assert found == sorted(steps, key=lambda step: (-means[step], step))


def test_a_rule_by_the_source_needs_its_score():
    with pytest.raises(RequestError, match="needs scores of the source language: add"):
        selection.choose({SW: SCORES[SW]}, "source")


def test_what_was_chosen_is_read_again(tmp_path):
    folder = tmp_path / "inference_eval"
    folder.mkdir()
    for name, of in SCORES.items():
        lines = [json.dumps({"step": step, "span_f1": score / 100}) for step, score in of.items()]
        (folder / f"{name}-metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = selection.measured(tmp_path, dict.fromkeys(SCORES, ("span_f1", 100.0)))
    assert found == {name: pytest.approx(of) for name, of in SCORES.items()}
    assert selection.read(tmp_path) is None
    chosen = selection.select(tmp_path, found, "each_target", "validation", EN)
    assert chosen.step == 600  # the best mean goes on
    assert chosen.steps == {EN: 400, SW: 200}
    assert selection.read(tmp_path) == chosen
    (tmp_path / selection.FILE).write_text("{")
    with pytest.raises(RequestError, match="is damaged: remove it"):
        selection.read(tmp_path)
