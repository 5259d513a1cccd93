#!/usr/bin/env bash
# One release of a car repository's tag in a CI job: what the composite action runs.
#
# In:  PITLANE (program), PIPELINE (file), TAG, REPOSITORY_DIR, and optionally REGISTRY (registry and
#      repository instead of the pipeline's), COUNTER, REGISTRY_USER and REGISTRY_TOKEN.
# Out: image, index, counter, commit and tag in GITHUB_OUTPUT; a table in GITHUB_STEP_SUMMARY.
# The job's own identity token signs where the pipeline file says `sign.keyless`.
set -euo pipefail

fail() { printf '::error title=pitlane::%s\n' "$1" >&2; exit 1; }

: "${PITLANE:?}" "${PIPELINE:?}" "${REPOSITORY_DIR:?}"
[ "${GITHUB_REF_TYPE:-tag}" = tag ] || fail "this job is of a ${GITHUB_REF_TYPE}, not of a tag: run it on push of tags"
tag=${TAG:-${GITHUB_REF_NAME:?}}
[ -f "$PIPELINE" ] || fail "$PIPELINE is not in the repository: name the pipeline file in \`pipeline:\`"

# Everything that the file names is there, before anything is built.
checked=$("$PITLANE" config check "$PIPELINE") || fail "$PIPELINE cannot be used: see the log above"

work=$(mktemp -d "${RUNNER_TEMP:-/tmp}/pitlane.XXXXXXXX")
trap 'rm -rf "$work"' EXIT

# The registry's login, in Docker's form and for this job alone; never on a command line.
if [ -n "${REGISTRY_TOKEN:-}" ]; then
    host=${REGISTRY:-$(python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["repository"])' <<<"$checked")}
    host=${host%%/*}
    mkdir -m 700 "$work/docker"
    auth=$(printf '%s:%s' "${REGISTRY_USER:-pitlane}" "$REGISTRY_TOKEN" | base64 -w0)
    (umask 077 && printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$host" "$auth" >"$work/docker/config.json")
    export DOCKER_CONFIG=$work/docker
    unset REGISTRY_TOKEN auth
fi

args=(--pipeline "$PIPELINE" --repo "$REPOSITORY_DIR" --tag "$tag" --work "$work/run" --output json)
[ -z "${REGISTRY:-}" ] || args+=(--registry "$REGISTRY")
[ -z "${COUNTER:-}" ] || args+=(--counter "$COUNTER")
[ -z "${PITLANE_DRY_RUN:-}" ] || args+=(--dry-run)
"$PITLANE" release "${args[@]}" >"$work/release.json" || fail "the release of $tag was refused or failed: see the log above"

python3 - "$work/release.json" "$tag" <<'PY'
import json, os, sys

found = json.load(open(sys.argv[1], encoding="utf-8"))
out = {name: found.get(name) for name in ("image", "index", "counter", "commit")} | {"tag": sys.argv[2]}
for name, value in out.items():
    if value is not None and not all(c.isprintable() for c in str(value)):
        sys.exit(f"{name} is not printable")
if path := os.environ.get("GITHUB_OUTPUT"):
    with open(path, "a", encoding="utf-8") as file:
        for name, value in out.items():
            file.write(f"{name}={'' if value is None else value}\n")
if path := os.environ.get("GITHUB_STEP_SUMMARY"):
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"### Release `{out['tag']}`\n\n| | |\n|---|---|\n")
        for name in ("image", "counter", "commit"):
            file.write(f"| {name} | `{out[name]}` |\n")
        stages = found.get("stagesMs") or {}
        file.write(f"| steps | {', '.join(f'{step} {ms} ms' for step, ms in stages.items())} |\n\n")
        if out["image"]:
            file.write(f"```\npitlane-verifier check {out['image']} --policy policy.yaml\n```\n")
json.dump(out, sys.stdout)
print()
PY
