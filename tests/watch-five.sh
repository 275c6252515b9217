#!/usr/bin/env bash
# Watches five real programs from Debian's packages at once: node exporter, etcd, Prometheus, Alertmanager, HAProxy.
# For DURATION seconds no scrape may fail. Then one of them is stopped: its scrapes must fail, counted by their reason,
# its trigger must fire, and nothing may be rolled back, since no release has changed. Not part of CI.
#
#   tests/watch-five.sh                 300 seconds
#   DURATION=30 tests/watch-five.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib/packages.sh
. tests/lib/packages.sh

PACKAGES="prometheus prometheus-node-exporter prometheus-alertmanager etcd-server haproxy curl jq"
DURATION=${DURATION:-300}
# Of all scrapes, in seconds. An answer may take as long: a machine that does other things is slow, and no reason to fail.
INTERVAL=3
# How long the stopped one's trigger holds.
HOLD=5
# How long anything is waited for that must come, on however busy a machine.
PATIENCE=180

say "Debian packages"
# shellcheck disable=SC2086  # a list of names
install_packages $PACKAGES
if [ -n "$MISSING" ]; then
    echo "Skipped: this needs $MISSING; run it as root on Debian, or install them" >&2
    exit 77
fi

binary=${BACKSTOP:-}
if [ -z "$binary" ]; then
    say "cargo build"
    cargo build --locked --bin backstop
    binary=target/debug/backstop
fi
binary=$(realpath "$binary")

work=$(mktemp -d)
# By name: those that run.
declare -A pids=()
cleanup() {
    local status=$? pid deadline=$((SECONDS + 30))
    for pid in ${pids[@]+"${pids[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in ${pids[@]+"${pids[@]}"}; do
        while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ "$status" != 0 ]; then
        echo "Failed; the ends of the logs:" >&2
        tail -n 15 "$work"/*.log >&2 || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() { echo "FAILED: $*" >&2; exit 1; }

# Puts into the variable a loopback port that nobody listens on now, another one each time. The kernel gives none of
# these out by itself.
taken=" "
free_port() { # name of the variable
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        case "$taken" in *" $port "*) continue ;; esac
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            taken="$taken$port "
            printf -v "$1" %s "$port"
            return
        fi
    done
}

get() { curl --silent --fail --max-time 30 "$@"; }

# what, command …: waits until it succeeds
await() {
    local what=$1 name deadline=$((SECONDS + PATIENCE))
    shift
    until "$@" >/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain: $what"
        for name in "${!pids[@]}"; do
            kill -0 "${pids[$name]}" 2>/dev/null || fail "$name has ended; waited for: $what"
        done
        sleep 0.2
    done
    echo "$what"
}

start() { # name, command …
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

# name: asks it to end; the status with which it did
stop() {
    local pid=${pids[$1]} status=0
    kill -TERM "$pid"
    wait "$pid" || status=$?
    unset "pids[$1]"
    return "$status"
}

say "Starting the five"
for name in node etcd etcd_peer prometheus alertmanager haproxy api; do free_port "$name"; done
# shellcheck disable=SC2154  # set by free_port
mkdir "$work/etcd" "$work/prometheus" "$work/alertmanager"

cat >"$work/prometheus.yml" <<YML
global: {scrape_interval: 5s}
scrape_configs:
  - {job_name: node, static_configs: [{targets: ["127.0.0.1:$node"]}]}
YML
cat >"$work/alertmanager.yml" <<YML
route: {receiver: nobody}
receivers: [{name: nobody}]
YML
cat >"$work/haproxy.cfg" <<CFG
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend stats
    bind 127.0.0.1:$haproxy
    http-request use-service prometheus-exporter if { path /metrics }
    default_backend prometheus
backend prometheus
    server prometheus 127.0.0.1:$prometheus check
CFG

start node prometheus-node-exporter --web.listen-address="127.0.0.1:$node"
start etcd etcd --data-dir "$work/etcd" --name default \
    --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$etcd_peer" --initial-advertise-peer-urls "http://127.0.0.1:$etcd_peer" \
    --initial-cluster "default=http://127.0.0.1:$etcd_peer"
start prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
    --web.listen-address="127.0.0.1:$prometheus"
start alertmanager prometheus-alertmanager --config.file="$work/alertmanager.yml" --storage.path="$work/alertmanager" \
    --web.listen-address="127.0.0.1:$alertmanager" --cluster.listen-address=
start haproxy haproxy -db -f "$work/haproxy.cfg"
has_leader() { get "http://127.0.0.1:$etcd/metrics" | grep '^etcd_server_has_leader 1'; }
await "node exporter answers" get "http://127.0.0.1:$node/metrics"
await "etcd has a leader" has_leader
await "Prometheus answers" get "http://127.0.0.1:$prometheus/-/ready"
await "Alertmanager answers" get "http://127.0.0.1:$alertmanager/-/ready"
await "HAProxy answers" get "http://127.0.0.1:$haproxy/metrics"

say "Starting backstop"
mkdir -p "$work/releases/1"
ln -s "$work/releases/1" "$work/current"
{
    cat <<TOML
[daemon]
state_dir = "$work/state"
listen    = "127.0.0.1:$api"
TOML
    # One metric of each that is there in any version, asked in a way that is false while the program is well.
    while read -r name port expr comparison; do
        cat <<TOML

[services.$name]
autonomy = "act"
startup  = "1s"
release  = [{ symlink = "$work/current", interval = "1s" }]
guard    = { references = ["http://127.0.0.1:$node/"], good_after = "5s" }

[services.$name.scrapes.it]
url      = "http://127.0.0.1:$port/metrics"
interval = "${INTERVAL}s"
timeout  = "${INTERVAL}s"

[services.$name.triggers.down]
expr  = 'up{job="it"}'
below = 1
for   = "${HOLD}s"

[services.$name.triggers.own]
expr = '$expr'
$comparison
for  = "${HOLD}s"

# It must never run. If it does, the file tells.
[[services.$name.rollback]]
name   = "leave a mark"
steps  = [{ command = ["/bin/touch", "$work/rolled-back"] }]
verify = { within = "60s", soak = "1s" }
TOML
    done <<LIST
node         $node         node_load1                                      above=100000
etcd         $etcd         etcd_server_has_leader                          below=1
prometheus   $prometheus   prometheus_config_last_reload_successful        below=1
alertmanager $alertmanager alertmanager_config_last_reload_successful      below=1
haproxy      $haproxy      rate(haproxy_process_requests_total[20s])       above=100000
LIST
} >"$work/backstop.toml"
start backstop "$binary" run --config "$work/backstop.toml"
await "backstop is ready" get "http://127.0.0.1:$api/readyz"

metrics() { get "http://127.0.0.1:$api/metrics"; }
status() { get "http://127.0.0.1:$api/v1/status"; }
# name of a counter, [service]: the sum of its samples
total() {
    metrics | awk -v name="$1" -v service="${2:-}" '
        $1 ~ "^" name "[{]" && (service == "" || $1 ~ "service=\"" service "\"") { sum += $NF } END { print sum + 0 }'
}
# In what no state may be here: whatever follows an admission.
nothing_rolled_back() {
    local acted
    acted=$(get "http://127.0.0.1:$api/v1/incidents" | jq -r '.incidents[]
        | select(.state | IN("running", "verifying", "recovered", "superseded", "aborted", "needs_human")) | .id')
    [ -z "$acted" ] || fail "these were acted on, and no release has changed: $acted"
    [ ! -e "$work/rolled-back" ] || fail "the rollback command ran"
}

say "Watching for $DURATION seconds"
end=$((SECONDS + DURATION))
while [ "$SECONDS" -lt "$end" ]; do
    sleep 5
    failures=$(total backstop_scrape_failures_total)
    [ "$failures" = 0 ] || fail "$failures scrapes failed: $(metrics | grep '^backstop_scrape_failures_total')"
    kill -0 "${pids[backstop]}" 2>/dev/null || fail "backstop has ended"
done
for name in node etcd prometheus alertmanager haproxy; do
    looks=$(total backstop_looks_total "$name")
    # A busy machine leaves some out, but never most of them.
    [ "$looks" -ge $((DURATION / INTERVAL / 2)) ] || fail "only $looks scrapes of $name in $DURATION seconds"
    echo "$name: $looks scrapes, none failed"
done
all_clear() {
    status >"$work/status.json"
    jq -e '[.services[].triggers[] | select(.finding != "clear")] | length == 0' "$work/status.json" || {
        jq -c '[.services[].triggers[] | {name, finding, sentence}]' "$work/status.json" >"$work/triggers.log"
        return 1
    }
}
await "all triggers are clear" all_clear
nothing_rolled_back

say "Stopping etcd"
stop etcd || true
fires() {
    status | jq -e '.services[] | select(.name == "etcd").triggers[] | select(.name == "down").verdict == "firing"'
}
await "the trigger of what was stopped fires" fires
# Time for what must not happen.
sleep 10
refused=$(total 'backstop_scrape_failures_total' etcd)
[ "$refused" -ge 2 ] || fail "only $refused scrapes of etcd failed"
others=$(($(total backstop_scrape_failures_total) - refused))
[ "$others" = 0 ] || fail "$others scrapes of the others failed"
metrics | grep '^backstop_scrape_failures_total'
nothing_rolled_back
get "http://127.0.0.1:$api/v1/incidents" | jq -r '.incidents[] | "\(.id): \(.state): \(.sentence)"'

say "Stopping backstop"
stop backstop || fail "backstop did not end well"
echo "Passed: five programs, $DURATION seconds, no failed scrape; one stopped, and nothing rolled back."
