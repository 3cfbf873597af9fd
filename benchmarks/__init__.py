"""Speed, memory and endurance, each a command: `python -m benchmarks.NAME`."""
