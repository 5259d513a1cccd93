//! oras and cosign: what refers to an image is attached, found, copied with it and deleted.

use std::{fs, path::Path};

use crate::world::{ADMIN, CI, JANITOR, NOBODY, World, parse, peer};

#[test]
fn oras_attaches_copies_and_deletes() {
    let (Some(crane), Some(oras)) = (peer("crane"), peer("oras")) else { return };
    let world = World::start();
    let car = world.image("cars/donkey:v1");
    world.ok(CI, &crane, &["append", "-f", "first.tar", "-t", &car]);
    fs::write(world.path("card.yaml"), "kind: ModelCard\n").unwrap();
    let (kind, other) = ("application/vnd.example.card", "application/vnd.example.scan");
    let attach = |kind: &'static str| {
        ["attach", "--plain-http", "--artifact-type", kind, &car, "card.yaml:text/yaml"]
            .map(str::to_owned)
    };
    let run = |who: &str, args: &[String]| {
        world.run(who, &oras, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for who in [NOBODY, JANITOR] {
        assert!(!run(who, &attach(kind)).status.success(), "{who}");
    }
    for kind in [kind, other] {
        let out = run(CI, &attach(kind));
        assert!(out.status.success(), "{out:?}");
    }
    let discover = |image: &str| {
        world.ok(
            CI,
            &oras,
            &["discover", "--plain-http", "-o", "json", "--artifact-type", kind, image],
        )
    };
    let found = parse(&discover(&car));
    let found = found["manifests"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["artifactType"]), (1, &kind.into()));

    // With all that refers to it, to another repository; both are listed there.
    let copy = world.image("cars/copy:v1");
    let cp = ["cp", "-r", "--from-plain-http", "--to-plain-http", &car, &copy];
    world.fails(JANITOR, &oras, &cp);
    world.ok(CI, &oras, &cp);
    let all = world.ok(CI, &oras, &["discover", "--plain-http", "-o", "json", &copy]);
    assert_eq!(parse(&all)["manifests"].as_array().unwrap().len(), 2);

    // A referrer is deleted by who may, and is off the list.
    let digest = found[0]["digest"].as_str().unwrap();
    let named = world.image(&format!("cars/donkey@{digest}"));
    let delete = ["manifest", "delete", "--plain-http", "--force", &named];
    world.fails(CI, &oras, &delete);
    world.ok(JANITOR, &oras, &delete);
    assert!(parse(&discover(&car))["manifests"].as_array().is_none_or(Vec::is_empty));

    // Blobs by themselves: one that is needed stays.
    world.ok(
        CI,
        &oras,
        &["blob", "push", "--plain-http", &world.image("cars/donkey"), "card.yaml"],
    );
    let manifest = parse(&world.ok(CI, &crane, &["manifest", &car]));
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = world.image(&format!("cars/donkey@{layer}"));
    let said = world.fails(JANITOR, &oras, &["blob", "delete", "--plain-http", "--force", &layer]);
    assert!(said.contains("in use"), "{said}");

    // The collector leaves what refers to what has a tag.
    world.collect();
    let all = world.ok(CI, &oras, &["discover", "--plain-http", "-o", "json", &copy]);
    assert_eq!(parse(&all)["manifests"].as_array().unwrap().len(), 2);
    world.ok(
        CI,
        &oras,
        &["pull", "--plain-http", "-o", "out", &world.image(&format!("cars/copy@{digest}"))],
    );
    assert_eq!(fs::read_to_string(world.path("out/card.yaml")).unwrap(), "kind: ModelCard\n");
    world.end();
}

fn sign(world: &World, cosign: &Path, image: &str) -> [String; 7] {
    if !world.path("cosign.key").exists() {
        world.ok(NOBODY, cosign, &["generate-key-pair"]);
        let offline =
            ["--no-default-fulcio", "--no-default-oidc", "--no-default-rekor", "--no-default-tsa"];
        world.ok(
            NOBODY,
            cosign,
            &[&["signing-config", "create", "--out", "offline.json"], &offline[..]].concat(),
        );
    }
    ["sign", "--key", "cosign.key", "--signing-config", "offline.json", "-y", image]
        .map(str::to_owned)
}

#[test]
fn cosign_signs_within_its_rights() {
    let (Some(crane), Some(cosign)) = (peer("crane"), peer("cosign")) else { return };
    let world = World::start();
    let car = world.image("cars/donkey:v1");
    world.ok(CI, &crane, &["append", "-f", "first.tar", "-t", &car]);
    let digest = world.ok(CI, &crane, &["digest", &car]).trim().to_owned();
    let image = world.image(&format!("cars/donkey@{digest}"));
    let sign = sign(&world, &cosign, &image);
    let sign: Vec<&str> = sign.iter().map(String::as_str).collect();
    let verify = ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog", &image];
    for who in [NOBODY, JANITOR] {
        world.fails(who, &cosign, &sign);
    }
    world.fails(CI, &cosign, &verify);
    world.ok(CI, &cosign, &sign);
    assert!(world.ok(CI, &cosign, &verify).contains(&digest));
    world.fails(NOBODY, &cosign, &verify);
    // Kept by the collector, although no tag names it; not under another image.
    world.collect();
    world.ok(JANITOR, &cosign, &verify);
    world.ok(CI, &crane, &["append", "-f", "second.tar", "-t", &world.image("cars/donkey:v2")]);
    world.fails(
        CI,
        &cosign,
        &[
            "verify",
            "--key",
            "cosign.pub",
            "--insecure-ignore-tlog",
            &world.image("cars/donkey:v2"),
        ],
    );
    // The image goes, and its signature is nobody's from then on.
    world.fails(ADMIN, &crane, &["delete", &world.image("cars/none:v1")]);
    world.ok(JANITOR, &crane, &["delete", &image]);
    assert!(world.collect().manifests >= 1);
    world.end();
}
