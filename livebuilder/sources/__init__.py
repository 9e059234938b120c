"""Where a root or a kernel comes from: Debian packages, a directory, an archive."""
