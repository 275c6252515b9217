#!/usr/bin/env bash
# Removes one safeguard at a time and demands that the simulator notices within a minute.
#
#   tests/mutations.sh            all of them
#   tests/mutations.sh recheck    one
#
# Each runs in a copy of the sources; what is built is kept in target/mutations. Prints which seed caught what,
# and fails if one is not caught.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
# A directory of its own: cargo could not tell the copy from the sources, and would take what was mutated for the real thing.
target=${CARGO_TARGET_DIR:-$root/target}/mutations
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# name | what is removed | file | sed expression
mutations=(
  'sync|the sync before a step|src/machine/acting.rs|s/self\.gate(Output::RunStep(Box::new(order)));/self.gated.push((crate::decide::event::Seq(0), Output::RunStep(Box::new(order))));/'
  'recheck|the look at the release right before a step|src/machine/acting.rs|s/(true, _) if incident\.may_step(&running) => return Some(true),/(true, _) => return Some(true),/'
  'unknown|the pause on Unknown|src/decide/trigger.rs|s/(Finding::Unknown(unknown), OnUnknown::Pause) => Says::Unknown(unknown\.blank()),/(Finding::Unknown(_), OnUnknown::Pause) => Says::Breached,/'
  'references|the reference probes|src/decide/guard.rs src/machine/judging.rs|s/^fn reach(reach: &Reach) -> Answer {$/&\n    if *reach != Reach::Target { return Answer::Allow(String::new()); }/; s/^    pub(super) fn follow_reach(.*{$/&\n        if index < usize::MAX { return; }/'
  'outbox|the persistence of the outbox|src/machine/recover.rs|/self\.outbox\.replay_queued(/d'
  'cooldown|the cooldown|src/decide/guard.rs|s/Some(until) if until > now\.monotonic => {/Some(until) if until > now.monotonic \&\& facts.cooldown_until.is_none() => {/'
)

# Less is optimised: what is built runs for a minute only.
quick=(--config 'profile.release.package.backstop.opt-level=1')

missed=0
ran=0
for mutation in "${mutations[@]}"; do
  IFS='|' read -r name what files edit <<<"$mutation"
  [[ $# -eq 0 || $1 == "$name" ]] || continue
  ran=$((ran + 1))
  rm -rf "${copy:?}"/*
  cp -r "$root"/{Cargo.toml,Cargo.lock,src,tests,benches,config} "$copy"
  for file in $files; do
    sed -i "$edit" "$copy/$file"
    if cmp -s "$root/$file" "$copy/$file"; then
      echo "$name: $file is not what this script expects; the mutation was not applied" >&2
      exit 2
    fi
  done
  if ! (cd "$copy" && CARGO_TARGET_DIR=$target cargo test --release "${quick[@]}" --test simulation --no-run) >"$copy/build.log" 2>&1; then
    cat "$copy/build.log" >&2
    echo "$name: the mutated sources do not build" >&2
    exit 2
  fi
  begun=$SECONDS
  # The runs of the mutated program must fail.
  if (cd "$copy" && CARGO_TARGET_DIR=$target SIM_MINUTES=1 cargo test --release "${quick[@]}" --test simulation -- --nocapture) \
    >"$copy/run.log" 2>&1; then
    echo "MISSED  without $what: a minute of simulation found nothing"
    missed=$((missed + 1))
  else
    caught=$(grep -m1 -E '^seed [0-9]+ fails' "$copy/run.log" || echo 'it failed without naming a seed')
    echo "caught  without $what, after $((SECONDS - begun)) s: $caught"
  fi
done
if ((ran == 0)); then
  echo "there is no mutation $1" >&2
  exit 2
fi
exit $((missed > 0))
