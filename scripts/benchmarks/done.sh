#!/bin/sh
# The init of the new root: the clock has stopped. With "bench.check" the bytes of every file are read back.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
# Without /proc busybox finds itself by this name only.
[ -e /proc/uptime ] || { /bin/busybox mkdir -p /proc && /bin/busybox mount -t proc proc /proc; }
read -r stopped _ </proc/uptime
while read -r _ target kind _; do [ "$target" = / ] && root=$kind; done </proc/mounts
echo "bench: root stands on $root from $BENCH_START to $stopped"
if grep -q bench.check /proc/cmdline; then
    sync
    echo 3 >/proc/sys/vm/drop_caches
    cd / && sha256sum -c -s /bench/sums && echo "bench: clean" || echo "bench: damaged"
fi
poweroff -f
