"""A first look, `make quickstart`: miniature languages, a pocket mT5, no download, minutes.

Pre-trains the pocket model on the text of ten miniature languages, fine-tunes it on named entities
in one of them, prints how well it does in all ten, and draws it.
"""

import sys
import time
from pathlib import Path

from seqio_tasks import miniature
from xfer_jax import cli, configuration, evaluation, plots, progress, train

SOURCE = "en"
OUT = Path("out/quickstart")


def _run(task: str, *bindings: str) -> list[evaluation.Scores]:
    files = ["gin/models/pocket.gin", f"gin/tasks/{task}.gin"]
    text = configuration.load("train", files, bindings)
    return train.train(configuration.build(train.Run), text)


def main(out: Path = OUT) -> list[evaluation.Scores]:
    """Runs it all; what was finished before is not done again.

    Args:
      out: folder for checkpoints, scores and the picture.

    Returns:
      The scores, one a language.
    """
    began = time.monotonic()
    progress.say("1/2  pre-training a pocket mT5 on ten miniature languages (span corruption)")
    _run("pocket_text", f"MODEL_DIR = '{out}/pretrained'")
    progress.say(f"\n2/2  fine-tuning it on named entities in {SOURCE}, then all ten languages")
    scores = _run(
        "pocket_ner",
        f"SOURCE = '{SOURCE}'",
        f"MODEL_DIR = '{out}/ner-{SOURCE}'",
        f"INITIAL_CHECKPOINT_PATH = '{out}/pretrained'",
    )
    picture = draw(scores, out / "zero_shot.png")
    progress.say(
        "\nThese are made-up languages: word order and affixes are those that WALS gives for"
    )
    progress.say("ar, bn, … hi; the words are invented. They test the tool, not the languages.")
    progress.say(f"picture: {picture}\nscores:  {out}/ner-{SOURCE}/scores.csv")
    progress.say(f"done in {time.monotonic() - began:.0f} s")
    return scores


def draw(scores: list[evaluation.Scores], path: Path) -> Path:
    """Draws the scores, best first, each with its language's planted word order."""
    world = miniature.World()
    rows = []
    for score in sorted(scores, key=lambda s: -s.percent):
        grammar = world.grammar(score.task.language)
        adposition = "prepositions" if grammar.adposition == "before" else "postpositions"
        note = f"{grammar.order}, {adposition}"
        rows.append((score.task.language, score.percent, score.baseline, note))
    return plots.zero_shot(
        path,
        rows,
        SOURCE,
        "Named entities: one language taught, ten understood?",
        "Miniature languages with the word order of real ones (span F1)",
    )


if __name__ == "__main__":
    sys.exit(cli.report(main))
