#!/usr/bin/env bash
# Network namespaces with a cable each to one bridge, and cuts between them. Needs root.
#
#   cables.sh up COUNT       namespaces mschaos-1 … with the addresses 10.77.7.1 …; this side of the bridge is 10.77.7.254
#   cables.sh cut FROM TO    what FROM sends to TO vanishes, not the other way round; 254 as TO is this side
#   cables.sh mend           nothing vanishes any more
#   cables.sh down           everything as it was
set -euo pipefail

name() { echo "mschaos-$1"; }
address() { echo "10.77.7.$1"; }
namespaces() { ip netns list | awk '$1 ~ /^mschaos-/ {print $1}'; }

up() {
    down
    ip link add mschaos-br type bridge
    ip addr add "$(address 254)/24" dev mschaos-br
    ip link set mschaos-br up
    for i in $(seq 1 "$1"); do
        ip netns add "$(name "$i")"
        ip link add "mschaos-v$i" type veth peer name eth0 netns "$(name "$i")"
        ip link set "mschaos-v$i" master mschaos-br up
        ip -n "$(name "$i")" link set lo up
        ip -n "$(name "$i")" addr add "$(address "$i")/24" dev eth0
        ip -n "$(name "$i")" link set eth0 up
    done
}

cut() {
    ip -n "$(name "$1")" route replace blackhole "$(address "$2")/32"
}

mend() {
    for namespace in $(namespaces); do
        ip -n "$namespace" route show type blackhole | while read -r _ destination _; do
            ip -n "$namespace" route del blackhole "$destination"
        done
    done
}

down() {
    for namespace in $(namespaces); do
        ip netns delete "$namespace"
    done
    ip link delete mschaos-br 2>/dev/null || true
}

"$@"
