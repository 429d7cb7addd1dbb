#!/bin/bash
# The agent's unit file under a systemd of its own: started, reloaded, watched, killed and stopped as on a device.
#
# usage: tests/systemd.sh [FOLDER]     FOLDER: where driftline-agent and driftline are (default target/debug)
#
# That systemd is process 1 of its own namespaces, without a network, on a copy-on-write view of this machine's files: nothing it writes stays.
# The unit is the project's, as it is; only WatchdogSec is shorter, in a drop-in. Exit codes: 0, 1 (a check failed), 77 (no systemd can be run here).
set -euo pipefail
repo=$(realpath "$(dirname "$0")/..")
binaries=$(realpath "${1:-${CARGO_TARGET_DIR:-$repo/target}/debug}")
unit=driftline-agent
config=/etc/driftline/agent.toml
watchdog=4

cannot() { echo "tests/systemd.sh: systemd cannot be run here: $*" >&2; exit 77; }

[ "$(id -u)" = 0 ] || cannot "root is needed"
missing=""
for pair in systemctl:systemd systemd-sysusers:systemd unshare:util-linux nsenter:util-linux setpriv:util-linux pivot_root:util-linux pgrep:procps; do
    command -v "${pair%%:*}" > /dev/null || [[ $missing == *" ${pair#*:}"* ]] || missing+=" ${pair#*:}"
done
if [ -n "$missing" ]; then
    [ "${CI:-}" = true ] || cannot "install it with apt-get install$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing; } > /dev/null \
        || cannot "apt-get cannot install$missing"
fi
for program in driftline-agent driftline; do
    [ -x "$binaries/$program" ] || { echo "tests/systemd.sh: no $program in $binaries: cargo build --workspace --bins" >&2; exit 1; }
done
# What is mounted from here on is seen by this process and its children only, and goes with them.
if [ -z "${DRIFTLINE_UNSHARED:-}" ]; then
    unshare --mount --pid --fork --uts --ipc --net --cgroup true 2> /dev/null || cannot "namespaces are not allowed"
    DRIFTLINE_UNSHARED=1 exec unshare --mount --propagation private bash "$0" "$binaries"
fi

work=$(mktemp -d) group="" manager="" init=""
finish() {
    # Process 1 takes all of its own with it, and leaves empty groups.
    [ -z "$manager" ] || { kill -KILL "${init:-$manager}" && wait "$manager"; } 2> /dev/null || true
    [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} \;
    umount -R "$work" 2> /dev/null || true
    rmdir "$work"
}
trap finish EXIT
mount -t tmpfs -o mode=755 driftline "$work"
mkdir "$work"/{upper,work,root,groups}
root=$work/root
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root" 2> /dev/null || cannot "no overlay can be mounted"
mount -t cgroup2 none "$work/groups" 2> /dev/null || cannot "no cgroup2 can be mounted"
[ -x "$root/lib/systemd/systemd" ] || cannot "/lib/systemd/systemd is not on the file system of /"
mkdir "$work/groups/driftline-test-$$" 2> /dev/null || cannot "no control group can be made"
group=$work/groups/driftline-test-$$

# A machine with the agent installed as a package would, and nothing else to start.
rm -rf "$root"/etc/systemd/{system,system.conf.d,journald.conf.d} "$root/etc/fstab" "$root/var/lib/driftline-agent"
mkdir -p "$root"/etc/driftline "$root"/etc/systemd/{system/$unit.service.d,journald.conf.d}
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
printf '[Journal]\nStorage=volatile\nAudit=no\nForwardToSyslog=no\n' > "$root/etc/systemd/journald.conf.d/test.conf"
systemd-sysusers --root="$root" --inline "$(grep ^u "$repo/firmware-configs/systemd/driftline.sysusers")" 2> /dev/null
install -m 755 "$binaries/driftline-agent" "$root/usr/bin/"
install -m 644 "$repo/firmware-configs/systemd/$unit.service" "$root/etc/systemd/system/"
printf '[Service]\nWatchdogSec=%s\n' $watchdog > "$root/etc/systemd/system/$unit.service.d/test.conf"
# The same unit, of a program that never says that it is ready.
sed 's,^ExecStart=.*,ExecStart=/bin/sleep 100,; s,^TimeoutStartSec=.*,TimeoutStartSec=2,; s,^Restart=.*,Restart=no,' \
    "$root/etc/systemd/system/$unit.service" > "$root/etc/systemd/system/mute.service"
cat > "$root$config" << END
[agent]
device = "unit-1"
data_dir = "/var/lib/driftline-agent"
[mqtt]
host = "127.0.0.1"
port = 1883
[model]
bundle = "/etc/driftline/pump-v1.bundle"
[source]
kind = "pumps"
seed = 1
rate_hz = 50.0
END
"$binaries/driftline-agent" record --config "$root$config" --rows 1000 > "$work/healthy.csv"
(cd "$root/etc/driftline" && "$binaries/driftline" baselines create --model "$repo/tests/models/pump-v1.onnx" --data "$work/healthy.csv" \
    --window 1s --window-samples 50) > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }

# The settings of the kernel, its clock and its modules are out of reach.
boot='
    cd "$1"
    mount -t proc proc proc && mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 dev dev && mkdir dev/pts dev/shm
    for node in null zero full random urandom tty; do touch dev/$node && mount --bind /dev/$node dev/$node; done
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts && ln -s pts/ptmx dev/ptmx
    mount -t tmpfs -o mode=755 run run && mount -t tmpfs -o mode=1777 tmp tmp
    pivot_root . mnt && umount -l /mnt
    exec env -i container=driftline setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-audit_control /lib/systemd/systemd --system --unit=basic.target'
(
    echo "$BASHPID" > "$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup bash -ec "$boot" boot "$root"
) > "$work/log" 2>&1 < /dev/null &
manager=$!

# within_s SECONDS COMMAND...: tries until it succeeds; says what the last try said.
within_s() {
    local end=$((SECONDS + $1)) said
    shift
    until said=$("$@" 2>&1); do
        [ $SECONDS -lt $end ] && kill -0 "$manager" 2> /dev/null || { echo "$said" && return 1; }
        sleep 0.1
    done
}
# Before it is systemd's, process 1 still sees this machine's own files.
booted() { [ "$(cat "/proc/$(pgrep -P "$manager")/comm")" = systemd ]; }
within() { nsenter --target "$init" --mount --pid --net --uts --ipc --cgroup -- "$@"; }
within_s 20 booted > /dev/null || cannot "it does not start: $(tail -n 1 "$work/log")"
init=$(pgrep -P "$manager")
within_s 60 within systemctl is-active basic.target || cannot "basic.target is not reached"

show() { within systemctl show -P "$1" "${2:-$unit}"; }
is() { [ "$(show "$1" "${3:-$unit}")" = "$2" ] || { echo "$1 is $(show "$1" "${3:-$unit}"), not $2" && return 1; }; }
logged() { within journalctl --quiet --unit $unit --output cat --grep "$1" "${@:2}" || { echo "the journal has no line: $1" && return 1; }; }
status() { within driftline-agent status --json --config $config; }
# The main process says that its broker is at this port.
answers() { status | grep "\"pid\":$(show MainPID),.*\"broker\":\"127.0.0.1:$1\"" || { echo "no such answer: $(status 2>&1)" && return 1; }; }
# restarted TIMES SECONDS: there is another process than $pid.
restarted() { within_s "$2" is NRestarts "$1" && within_s 10 is ActiveState active && within_s 5 answers 1884 && ! is MainPID "$pid" > /dev/null; }

# Each of these runs in a process of its own: see check.
silent_is_not_started() { ! within systemctl start mute && is Result timeout mute; }
starts() { within systemctl start $unit && is ActiveState active && is SubState running && is NRestarts 0; }
confined() {
    for line in "Uid:.*\b$(within id -u driftline)" 'CapBnd:\s*0*' 'NoNewPrivs:\s*1' 'Seccomp:\s*2'; do
        within grep -Exq "$line" "/proc/$pid/status" || { echo "not so: $line" && return 1; }
    done
    [ "$(within stat -c '%U %a' /var/lib/driftline-agent)" = "driftline 700" ] && ! within nsenter --target "$pid" --mount touch /var/lib/x
}
limited() { [ "$(within cat "/sys/fs/cgroup/system.slice/$unit.service/memory.max")" = $((256 << 20)) ]; }
tells() { within_s 5 answers 1883; }
logs() { within_s 5 logged 'trying again' --identifier driftline-agent; }
reloads() {
    sed -i 's/^port = .*/port = 1884/' "$root$config"
    within systemctl reload $unit && within_s 10 answers 1884 && is ActiveState active && is MainPID "$pid" && is NRestarts 0
}
refuses() {
    cp "$root$config" "$root$config.good" && echo nonsense >> "$root$config"
    within systemctl reload $unit && within_s 5 logged 'configuration of before stays' > /dev/null
    mv "$root$config.good" "$root$config"
    logged 'configuration of before stays' && answers 1884 && is ActiveState active && is MainPID "$pid"
}
fed() { within sleep $((3 * watchdog)) && is ActiveState active && is NRestarts 0; }
watched() { within systemctl kill --signal STOP --kill-whom main $unit && restarted 1 $((watchdog + 15)) && logged 'Watchdog timeout'; }
killed() { within systemctl kill --signal KILL $unit && restarted 2 10 && logged 'status=9/KILL'; }
stops() {
    began=${EPOCHREALTIME/[.,]/} && within systemctl stop $unit && ms=$(((${EPOCHREALTIME/[.,]/} - began) / 1000)) && echo "it took $ms ms"
    [ "$ms" -lt 2300 ] && is ActiveState inactive && is Result success && is ExecMainStatus 0 && ! status
}

passed=0 failed=0 skipped=0
check() {
    local name=$1 said pid
    pid=$(show MainPID)
    if said=$("${@:2}" 2>&1); then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s: %s\n' "$name" "$said"
    fi
}
echo "systemd $(within systemctl --version | sed -n '1s/.*(\(.*\))/\1/p'), $(within driftline-agent --version)"
check "a program that does not say READY=1 is not taken for started" silent_is_not_started
check "start returns when the agent is ready" starts
check "it runs as its user, without capabilities, its system calls filtered, and writes to its directory only" confined
check "driftline-agent status is answered by the main process" tells
check "journalctl -u shows what the agent says" logs
if within test -e "/sys/fs/cgroup/system.slice/$unit.service/memory.max"; then
    check "MemoryMax is in force" limited
else
    skipped=1 && echo "skipped MemoryMax, CPUQuota and TasksMax: the cgroup2 of this machine has no such controllers"
fi
check "reload takes the new configuration over in the same process" reloads
check "reload with a configuration that cannot be changes nothing" refuses
check "the watchdog is fed, also after a reload" fed
check "a process that stands still is ended by the watchdog and started again" watched
check "a killed process is started again" killed
check "stop ends it within two seconds, successfully" stops
[ $failed -eq 0 ] || within journalctl --quiet --no-pager --unit $unit --unit mute
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
