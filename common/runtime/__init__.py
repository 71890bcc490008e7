"""Files, folders of runs, command lines, provenance, and workers: nothing here is about world models."""
