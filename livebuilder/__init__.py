"""livebuilder: a live router ISO for old PCs, with its settings on a stick."""

__version__ = "0.1.0"
