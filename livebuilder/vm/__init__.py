"""Virtual machines: period PCs, QEMU sessions, boot scenarios."""
