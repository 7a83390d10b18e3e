"""Proves or refutes on a GPU what was designed, predicted or read: a case a file, the most telling first."""
