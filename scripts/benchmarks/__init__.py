"""What scripts/bench measures: livebuilder against what one would do without it, side by side in one run."""
