"""The benchmark of the search: what it keeps, and that it finds what brute force does."""

import json

from benchmarks import retrieval


def test_the_search_is_timed_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, "SECONDS", 0.01)
    monkeypatch.setattr(retrieval, "SIDE", 256)  # a rate of 0.0 GFLOP/s would need 0.7 s
    assert retrieval.main(["--size=300", "--width=16", f"--results={tmp_path}"]) == 0
    kept = json.loads((tmp_path / "retrieval.json").read_text())
    assert kept["checked_queries"] == 300 // retrieval.TURNS
    assert kept["equal_to_brute_force"] == 1
    assert kept["largest_error"] < 1e-5
    assert min(kept["product_gflops"]) > 0
    assert len(kept["ratios"]) == retrieval.TURNS
    assert kept["peak_bytes"] > kept["vectors_bytes"] == 2 * 300 * 16 * 4
