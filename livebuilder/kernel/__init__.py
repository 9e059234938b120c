"""Linux: its image, its modules, and how they are packed."""
