# shellcheck shell=sh
# Failsafe: start as the image was built, with the stick at hand to be repaired but not laid over the root. It is asked
# for by lb.failsafe, or by a line with nothing but an f at any console until the stick is laid.

STICK_ASIDE=no # the stick is mounted, but not laid over the root

# offer_failsafe: the words are OpenWrt's, whose own offer comes later and without a stick to keep off.
offer_failsafe() {
    [ "$FAILSAFE:$STORAGE_WANTED" = no:yes ] || return 0
    tell "$PREFIX: press the [f] key and hit [enter] to enter failsafe mode"
    listen f F
}

# enter_failsafe: the last moment to ask for it has come.
enter_failsafe() {
    stop_listening
    ! heard || FAILSAFE=yes
    [ "$FAILSAFE" = yes ] || return 0
    if [ "$STORAGE_STATE" = volatile ]; then
        STORAGE_REASON="failsafe mode; $STORAGE_REASON"
        return
    fi
    failsafe_folders=/overlay/upper${BY_MAC:+ and /overlay/$MACHINES/$BY_MAC}
    STORAGE_REASON="failsafe mode: the settings on $STORAGE_DEVICE are not used; they are in $failsafe_folders, and"
    STORAGE_REASON="$STORAGE_REASON reboot starts with them again"
    STORAGE_STATE=volatile
    STICK_ASIDE=yes
}
