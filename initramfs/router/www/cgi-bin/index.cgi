#!/bin/sh
# The status page: what `router status` says, for a browser. It reads nothing but the Host header, and changes nothing.
# shellcheck source=initramfs/router/lib/router/status.sh
. "$ROOT/lib/router/status.sh"
router_status page
