"""OpenWrt's own things: its releases, how they are published and signed, its packages, and what each root wants."""
