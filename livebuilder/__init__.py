"""livebuilder: a live router ISO for old PCs, with its settings on a stick."""
