//! crane, and skopeo 1.9 and 1.18: push, copy, list, delete, with tokens that have few rights.

use crate::world::{ADMIN, CI, JANITOR, NOBODY, WRONG, World, parse, peer};

#[test]
fn crane_within_its_rights() {
    let Some(crane) = peer("crane") else { return };
    let world = World::start();
    let (car, base) = (world.image("cars/donkey:v1"), world.image("public/base:v1"));
    let append = |who: &str, layer: &str, tag: &str| {
        world.run(who, &crane, &["append", "-f", layer, "-t", tag])
    };
    for (who, tag, want) in [
        (NOBODY, &car, false),
        (WRONG, &car, false),
        (JANITOR, &car, false),
        (CI, &base, false),
        (CI, &car, true),
        (ADMIN, &base, true),
    ] {
        let out = append(who, "first.tar", tag);
        assert_eq!(out.status.success(), want, "{who} {tag}: {out:?}");
    }
    append(ADMIN, "second.tar", &world.image("secret/car:v1"));

    // Pulls: what is public, what is one's own, and nothing else.
    world.ok(NOBODY, &crane, &["validate", "--remote", &base]);
    world.fails(NOBODY, &crane, &["manifest", &car]);
    world.ok(CI, &crane, &["validate", "--remote", &car]);
    world.fails(CI, &crane, &["manifest", &world.image("secret/car:v1")]);
    let list = world.ok(CI, &crane, &["catalog", &world.host]);
    assert_eq!(list, "cars/donkey\npublic/base\n");

    // A copy from a public repository is mounted; from a secret one it is nothing.
    world.ok(CI, &crane, &["copy", &base, &world.image("cars/copy:v1")]);
    world.fails(
        CI,
        &crane,
        &["copy", &world.image("secret/car:v1"), &world.image("cars/stolen:v1")],
    );

    // An index with two platforms; its parts cannot be deleted from under it.
    for platform in ["linux/amd64", "linux/arm64"] {
        let tag = world.image(&format!("cars/donkey:{}", platform.replace('/', "-")));
        world.ok(CI, &crane, &["mutate", &car, "--set-platform", platform, "-t", &tag]);
    }
    let both = world.image("cars/donkey:both");
    let (amd, arm) =
        (world.image("cars/donkey:linux-amd64"), world.image("cars/donkey:linux-arm64"));
    world.ok(CI, &crane, &["index", "append", "-m", &amd, "-m", &arm, "-t", &both]);
    let digest = |tag: &str| world.ok(CI, &crane, &["digest", tag]).trim().to_owned();
    let (part, index) = (digest(&arm), digest(&both));
    let named = |digest: &str| world.image(&format!("cars/donkey@{digest}"));
    world.fails(CI, &crane, &["delete", &named(&index)]);
    let said = world.fails(JANITOR, &crane, &["delete", &named(&part)]);
    assert!(said.contains("in use by the index"), "{said}");
    world.ok(JANITOR, &crane, &["delete", &named(&index)]);
    world.ok(JANITOR, &crane, &["delete", &named(&part)]);
    world.fails(CI, &crane, &["digest", &arm]);

    // What is left is what has a tag, whole.
    let gone = world.collect();
    assert!(gone.blobs >= 2, "{gone:?}");
    for tag in [&car, &amd, &world.image("cars/copy:v1")] {
        world.ok(CI, &crane, &["validate", "--remote", tag]);
    }
    world.end();
}

/// One skopeo: from the registry, to the registry, all platforms, and deleted again.
fn skopeo(program: &str) {
    let (Some(crane), Some(skopeo)) = (peer("crane"), peer(program)) else { return };
    // Once with passes, and once with a login for everything.
    for public in ["public/*", ""] {
        let world = World::with(public);
        let car = world.image("cars/donkey:v1");
        world.ok(CI, &crane, &["append", "-f", "first.tar", "-t", &car]);
        for platform in ["linux/amd64", "linux/arm64"] {
            let tag = world.image(&format!("cars/donkey:{}", platform.replace('/', "-")));
            world.ok(CI, &crane, &["mutate", &car, "--set-platform", platform, "-t", &tag]);
        }
        let both = world.image("cars/donkey:both");
        let (amd, arm) =
            (world.image("cars/donkey:linux-amd64"), world.image("cars/donkey:linux-arm64"));
        world.ok(CI, &crane, &["index", "append", "-m", &amd, "-m", &arm, "-t", &both]);

        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let copy = |from: &str, to: &str| {
            let all: Vec<String> = ["copy", "--all", "--insecure-policy", tls[0], tls[1]]
                .into_iter()
                .map(str::to_owned)
                .chain([from.to_owned(), to.to_owned()])
                .collect();
            all
        };
        let run = |who: &str, args: &[String]| {
            world.run(who, &skopeo, &args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (from, to) =
            (format!("docker://{both}"), format!("docker://{}", world.image("cars/copy:both")));
        for (who, want) in [(NOBODY, false), (WRONG, false), (JANITOR, false), (CI, true)] {
            let out = run(who, &copy(&from, &to));
            assert_eq!(out.status.success(), want, "{who}: {out:?}");
        }
        // Out into a folder, and in again under another name.
        assert!(run(CI, &copy(&to, "oci:local:both")).status.success());
        let again = format!("docker://{}", world.image("cars/again:both"));
        let out = run(CI, &copy("oci:local:both", &again));
        assert!(out.status.success(), "{out:?}");
        assert!(
            !run(
                CI,
                &copy("oci:local:both", &format!("docker://{}", world.image("other/car:both")))
            )
            .status
            .success()
        );
        let raw = world.ok(CI, &skopeo, &["inspect", "--raw", "--tls-verify=false", &again]);
        assert_eq!(parse(&raw)["manifests"].as_array().unwrap().len(), 2);
        let tags = world.ok(
            CI,
            &skopeo,
            &[
                "list-tags",
                "--tls-verify=false",
                &format!("docker://{}", world.image("cars/again")),
            ],
        );
        assert_eq!(parse(&tags)["Tags"], serde_json::json!(["both"]));

        let delete = ["delete", "--tls-verify=false", again.as_str()];
        world.fails(CI, &skopeo, &delete);
        world.fails(NOBODY, &skopeo, &delete);
        world.ok(JANITOR, &skopeo, &delete);
        world.fails(CI, &skopeo, &["inspect", "--raw", "--tls-verify=false", &again]);
        world.collect();
        world.ok(CI, &crane, &["validate", "--remote", &world.image("cars/copy:both")]);
        world.end();
    }
}

#[test]
fn skopeo_of_debian_12() {
    skopeo("skopeo");
}

#[test]
fn skopeo_of_today() {
    skopeo("skopeo18");
}
