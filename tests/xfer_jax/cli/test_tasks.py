"""`xfer-jax tasks` and `vocab`: what there is, where it comes from, and what is learnt from it."""

import re

from seqio_tasks import catalogue, vocabulary
from tests.support.command_line import one_line
from xfer_jax.cli import main as cli


def test_tasks_lists_names_languages_and_where_the_data_comes_from(capsys):
    assert cli.main(["tasks", "panx.sw"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert re.match(r"xfer_panx\.sw +Swahili +train wikiann/sw:1\.0\.0/train ", out[0])
    assert "TFDS (set XFER_DATA_DIR to read files instead)" in out[1]


def test_tasks_are_listed_by_group(capsys):
    assert cli.main(["tasks", "--filter", "intermediate"]) == 0
    *listed, summary = capsys.readouterr().out.splitlines()
    families = [line for line in listed if line.startswith("xfer_intermediate.")]
    assert [line.split()[0] for line in families] == list(catalogue.intermediates())
    assert "xfer_intermediate.ner.uralic               xfer_panx: et fi hu" in families
    assert summary.startswith(f"{9 + len(families)} tasks; ")
    del listed[-len(families) :]
    names = ("squad", "squad2", "ccg", "qqp", "mnli", "anli")
    names += ("hellaswag", "cosmosqa", "commonsenseqa")
    assert [line.split()[0] for line in listed] == [f"xfer_{name}.en" for name in names]
    assert "train squad/v2.0:3.0.0/train (130,319)  validation" in listed[1]
    assert "train file ccg/train.tsv  validation file ccg/dev.tsv" in listed[2]
    assert "validation anli/r1:0.1.0/validation+anli/r2:0.1.0/validation+" in listed[5]
    assert cli.main(["tasks", "xquad", "--filter", "xtreme_r"]) == 0
    listed = capsys.readouterr().out.splitlines()[:-1]
    assert len(listed) == 12
    assert listed[0].endswith(" test xquad/ar:3.0.0/test (1,190)")
    assert cli.main(["tasks", "tatoeba", "--filter", "xtreme_r"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith("tatoeba                retrieval, 41 languages: ")
    assert cli.main(["tasks", "qqp", "--filter", "xtreme_r"]) == 2
    assert "no task's name of xtreme_r contains 'qqp'" in one_line(capsys)


def test_tasks_counts_the_examples_of_all_parts(capsys, monkeypatch, tmp_path):
    for number in (1, 2, 3):
        path = tmp_path / "anli" / f"R{number}" / "dev.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text('{"context": "a", "hypothesis": "b", "label": "e"}\n' * number)
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    assert cli.main(["tasks", "anli", "--sizes"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split("  ")[-3:-1] == ["train -", "validation 6"]


def test_tasks_counts_the_examples_of_a_data_folder(capsys, monkeypatch, tmp_path):
    (tmp_path / "panx").mkdir()
    (tmp_path / "panx" / "train-sw.tsv").write_text("Rick\tB-PER\n\nanaishi\tO\n")
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    assert cli.main(["tasks", "panx.sw", "--sizes"]) == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line.split()[2:] == ["train", "2", "validation", "-", "test", "-"]
    assert str(tmp_path) in summary


def test_tasks_of_an_unknown_name_are_an_error(capsys):
    assert cli.main(["tasks", "klingon"]) == 2
    assert "'klingon'" in one_line(capsys)


def test_vocab_trains_a_vocabulary_with_sentinels(capsys, tmp_path, monkeypatch):
    (tmp_path / "panx").mkdir()
    words = ["Rick\tB-PER", "anaishi\tO", "Paris\tB-LOC", "na\tO", "Morty\tB-PER", "mjini\tO"]
    text = "".join(f"{a}\n{b}\n{c}\n\n" for a in words for b in words for c in words)
    (tmp_path / "panx" / "train-sw.tsv").write_text(text)
    monkeypatch.setenv("XFER_DATA_DIR", str(tmp_path))
    out = tmp_path / "made" / "sw.model"
    arguments = ["vocab", "--tasks=xfer_panx.sw", "--size=130", f"--out={out}"]
    assert cli.main(arguments) == 0
    assert f"wrote {out}: 130 pieces from 1 tasks" in capsys.readouterr().out
    loaded = vocabulary.load(str(out))
    assert loaded.size == 130
    assert loaded.decode(loaded.encode("tag: Rick na Morty")) == "tag: Rick na Morty"
    assert loaded.encode("<extra_id_0>")[-1] == loaded.sentinel(0) == 129

    assert cli.main([*arguments[:2], "--size=100000", f"--out={tmp_path / 'large.model'}"]) == 2
    assert "100000 pieces cannot be trained" in one_line(capsys)
    assert not (tmp_path / "large.model").exists()
    assert cli.main([*arguments, "--languages=sw,fi"]) == 2
    assert "have no language fi" in one_line(capsys)
