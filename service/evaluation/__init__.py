"""`hammingbird evaluate`: models trained or loaded, put through one protocol, shown as tables, JSON or pictures."""
