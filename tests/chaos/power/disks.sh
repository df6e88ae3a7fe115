#!/usr/bin/env bash
# Small ext4 disks in files, and power cuts: what was not brought to the disk is gone. Needs root and python3.
#
#   disks.sh up DIRECTORY COUNT MEGABYTES   disks mounted at DIRECTORY/disk-1 …
#   disks.sh cut DIRECTORY N…               power off: from here on nothing reaches these disks, not even the journal of ext4
#   disks.sh back DIRECTORY N…              power on; whoever had files open there must be dead
#   disks.sh down DIRECTORY                 unmounted and deleted
set -euo pipefail

up() {
    for i in $(seq 1 "$2"); do
        mkdir -p "$1/disk-$i"
        truncate -s "$3M" "$1/disk-$i.img"
        mkfs.ext4 -q -F "$1/disk-$i.img"
        mount -o loop "$1/disk-$i.img" "$1/disk-$i"
    done
}

cut() {
    python3 - "$@" <<'PYTHON'
import fcntl, os, struct, sys
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)
directory, *numbers = sys.argv[1:]
disks = [os.open(f"{directory}/disk-{number}", os.O_RDONLY) for number in numbers]
for disk in disks:
    fcntl.ioctl(disk, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
PYTHON
}

back() {
    for i in "${@:2}"; do
        umount "$1/disk-$i"
        mount -o loop "$1/disk-$i.img" "$1/disk-$i"
    done
}

down() {
    for mountpoint in "$1"/disk-*/; do
        mountpoint -q "$mountpoint" && umount "$mountpoint"
    done
    rm -rf "$1"/disk-*
}

"$@"
