"""What boots: the initramfs, the root in it, and whether it is complete."""
