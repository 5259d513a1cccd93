"""The attacks of the demo. Each makes something in the registry and gives the digest that a GitOps
commit then wants the car to drive. (name, the refusal's code, how)"""

import itertools
import json
import time

COUNTERS = map(str, itertools.count(1001))


def one_shot(demo, tag: str, edit=lambda text: text) -> str:
    """A release made beside the service, by somebody with the key; gives the index's digest."""
    file = demo.work / f"config/{tag}.yaml"
    text = demo.pipeline.read_text()
    text = text[: text.index("  promote:")]
    token = f"\n    passwordFile: {demo.push_token}\n"
    text = text.replace(f"{demo.registry.repository}\n", demo.registry.repository + token)
    file.write_text(edit(text))
    demo.git("tag", tag, cwd=demo.car_tree)
    made = demo.pitlane("release", "--pipeline", file, "--repo", demo.car_tree, "--tag", tag,
                        # Far above the service's own counters, so that the two never meet.
                        "--counter", next(COUNTERS), "--output", "json", env={"PITLANE_CACHE": str(demo.work / "state/cache")})
    return json.loads(made)["index"]


def own_policy(demo, name: str, edit) -> str:
    """The car's policy with an edit: an insider lets his own check step pass."""
    file = demo.work / f"config/policy-{name}.yaml"
    file.write_text(edit((demo.root / "policies/donkeycar.yaml").read_text()))
    return str(file)


def cut(text: str, start: str, end: str) -> str:
    """Text without what lies from one marker to the other."""
    i = text.index(start)
    return text[:i] + text[text.index(end, i):]


def unsigned(demo) -> str:
    index = json.loads(demo.registry.manifest(demo.index))
    index["annotations"]["org.opencontainers.image.version"] = "v6.6.6"
    return demo.registry.put_index(index)


def lap_less(demo) -> str:
    policy = own_policy(demo, "lapless", lambda text: cut(text, "  laps:", "  provenance:"))

    def edit(text: str) -> str:
        text = cut(text, "  prove:", "  registry:")
        return replace_policy(text, policy)

    demo.lapless = one_shot(demo, "v1.2.0-lapless", edit)
    return demo.lapless


def replace_policy(text: str, policy: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(f"  policy: {policy}\n" if line.startswith("  policy:") else line for line in lines)


def other_repository(demo) -> str:
    policy = own_policy(demo, "other", lambda text: text.replace("team/donkeycar", "team/elsewhere", 1)
                        .replace("repository: team/donkeycar", "repository: team/elsewhere"))

    def edit(text: str) -> str:
        text = text.replace("repository: team/donkeycar\n    url", "repository: team/elsewhere\n    url")
        return replace_policy(text, policy)

    return one_shot(demo, "v1.3.0-elsewhere", edit)


def replayed_lap(demo) -> str:
    """The lap-less release again, now with a statement that lends it the first release's lap."""
    statement = demo.registry.statement(demo.lapless)
    good = demo.registry.statement(demo.index)
    lap = [e for e in good["predicate"]["evidence"] if e["predicateType"].endswith("/lap/v1")]
    statement["predicate"]["evidence"] += lap
    statement["predicate"]["counter"] += 10
    file = demo.work / "config/forged.json"
    file.write_text(json.dumps(statement))
    tag = "_release-" + demo.lapless.removeprefix("sha256:")
    demo.pitlane("attest", f"{demo.registry.repository}@{demo.lapless}", "--statement", file,
                 "--key", demo.key, "--password-file", demo.password,
                 "--registry-password-file", demo.push_token, "--tag", tag)
    return demo.lapless


def altered_blob(demo) -> str:
    """A good release, one byte of whose model layer is then changed on the registry's disk."""
    card = demo.car_tree / "models/pilot.yaml"
    card.write_text(card.read_text() + "# the same model, another card, so another layer\n")
    demo.git("commit", "--quiet", "-a", "-m", "Card", cwd=demo.car_tree)
    index = one_shot(demo, "v1.4.0-altered")
    layer = demo.registry.statement(index)["predicate"]["model"]["layer"]
    file = demo.work / "state/registry/blobs/sha256" / layer.removeprefix("sha256:")
    for _ in range(100):
        if file.exists():
            break
        time.sleep(0.1)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    return index


def old_release(demo) -> str:
    return demo.index


ATTACKS = [
    ("unsigned image", "unsigned", unsigned),
    ("release without a lap", "no-lap", lap_less),
    ("another repository's release", "wrong-source", other_repository),
    ("replayed lap", "lap-of-another-image", replayed_lap),
    ("altered blob in the registry", "altered-layer", altered_blob),
    ("old release by revert", "rollback", old_release),
]
