"""The build: a profile in, an output folder with a bootable ISO out."""
