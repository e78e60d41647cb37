"""OPERATE: the faces of Control (manhole shell, command line)."""
