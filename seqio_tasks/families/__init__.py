"""One module a kind of task: which files, which text format, which metric."""
