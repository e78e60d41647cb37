"""TRANSLATE bytes into messages and back. Standard library only; no I/O, no knowledge of core."""
