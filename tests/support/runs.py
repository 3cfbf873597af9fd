"""Folders of runs as T5X and this tool leave them, written by hand."""

import json
from pathlib import Path

RIGHT, WRONG = ("tag: rick", "PER: rick", "PER: rick"), ("tag: rick", "PER: rick", "LOC: rick")


def write_run(folder: Path, trained: str, answers: dict[str, list[tuple]], step: int = 10) -> Path:
    """Writes a run's folder: by task, rows of (input, reference, answer)."""
    (folder / "inference_eval").mkdir(parents=True, exist_ok=True)
    (folder / "config.gin").write_text(
        f"MIXTURE_OR_TASK_NAME = '{trained}'\nRANDOM_SEED = 3\nOTHER = @something()\n"
    )
    for task, rows in answers.items():
        lines = [
            json.dumps(
                {
                    "input": {"inputs_pretokenized": text, "inputs": [5, 6, 1]},
                    "target": reference,
                    "output": answer,
                }
            )
            for text, reference, answer in rows
        ]
        path = folder / "inference_eval" / f"{task}-{step:06d}.jsonl"
        path.write_text("\n".join(lines) + "\n")
    return folder
