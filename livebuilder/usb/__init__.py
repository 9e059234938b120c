"""Sticks: partition table, file system, image file."""
