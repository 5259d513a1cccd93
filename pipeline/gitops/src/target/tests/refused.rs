//! What is not edited, and what people are told to do.

use super::*;

const KUSTOMIZE: &str = "# the car\nkind: Kustomization # keep me\nresources:\n- car.yaml\nimages:\n\
    # twin\n- name: twin\n  newName: r.example/team/twin\n  digest: OTHER\n\
    - newName: r.example:5000/team/car   # where\n  name: car\n  digest: OLD # set\npatches: []\n";
const DEPLOYMENT: &str = "kind: Deployment\nmetadata: {name: car}\nspec:\n  template:\n    spec:\n      containers:\n      \
    - name: car\n        image: r.example:5000/team/car@OLD\n";
const HELM: &str = "image:\n  repository: r.example:5000/team/car\n  digest: OLD\n";
const COMPOSE: &str = "services:\n  car:\n    image: r.example:5000/team/car@OLD\n";
const ARGO: &str = "kustomize:\n  images:\n  - car=r.example:5000/team/car@OLD\nhelm:\n  parameters:\n  - name: image.tag\n    \
    value: v1@OLD\n";
const FLUX: &str = "a: r.example:5000/team/car@OLD # {\"$imagepolicy\": \"ns:car\"}\n";

/// Target, file, what is replaced in it, by what, the code, and a part of the message.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const TABLE: &[Row] = &[
    ("kustomize, image: car", KUSTOMIZE, "images:", "pictures:", "place-missing", "no list"),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "name: car",
        "name: cart",
        "place-missing",
        "has the name",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "name: twin",
        "name: car",
        "place-ambiguous",
        "two entries",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "5000/team/car ",
        "5000/team/cat ",
        "other-repository",
        "newName",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "digest: OLD",
        "newTag: v1",
        "place-missing",
        "no `digest:`",
    ),
    ("kustomize, image: car", KUSTOMIZE, "digest: OLD", "digest:", "scalar-form", "any value"),
    ("kustomize, image: car", KUSTOMIZE, "kind:", "kind: a\nkind:", "file-unreadable", "uplicate"),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "patches:",
        "---\nkind:",
        "place-ambiguous",
        "2 documents",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "OLD # set",
        "OLD # pitlane: pause until friday",
        "paused",
        "friday",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "# the car",
        "# pitlane: pause",
        "paused",
        "take the comment out",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "digest: OLD",
        "digest: |\n    OLD",
        "scalar-form",
        "several lines",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "digest: OLD",
        "digest: \"sha256:\n    1\"",
        "scalar-form",
        "one",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "digest: OLD",
        "digest: {a: OLD}",
        "scalar-form",
        "no scalar",
    ),
    ("kustomize, image: car", KUSTOMIZE, "digest: OTHER", "digest: &d OTHER", "ok", ""),
    ("kustomize, image: car", KUSTOMIZE, "digest: OLD", "digest: *d", "file-unreadable", "nchor"),
    ("kustomize, image: car", KUSTOMIZE, "- car.yaml", "- \"", "file-unreadable", "YAML"),
    ("kustomize, image: car", KUSTOMIZE, "patches: []", "x: \u{0}", "file-encoding", "UTF-8"),
    // Anchors: an alias in the place, an anchor used elsewhere, a whole entry, a merge.
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "digest: OTHER\n- newName: r.example:5000/team/car   # where\n  name: car\n  digest: OLD",
        "digest: &d OTHER\n- newName: r.example:5000/team/car\n  name: car\n  digest: *d",
        "scalar-shared",
        "digest",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "OLD # set\npatches: []",
        "&d OLD\npatches: [*d]",
        "scalar-shared",
        "write it out",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "- newName: r.example:5000/team/car   # where\n  name: car\n  digest: OLD # set\npatches: []",
        "- &car\n  newName: r.example:5000/team/car\n  name: car\n  digest: OLD\npatches: [*car]",
        "scalar-shared",
        "anchor",
    ),
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "- name: twin\n  newName: r.example/team/twin\n  digest: OTHER\n- newName: r.example:5000/team/car   # where\n  name: car\n  digest: OLD",
        "- &t\n  name: twin\n  digest: OTHER\n- <<: *t\n  newName: r.example:5000/team/car\n  name: car",
        "scalar-shared",
        "merge",
    ),
    // Other readers see two entries of that name.
    (
        "kustomize, image: car",
        KUSTOMIZE,
        "- name: twin\n  newName: r.example/team/twin\n  digest: OTHER\n- newName: r.example:5000/team/car   # where\n  name: car",
        "- name: &n car\n  digest: OTHER\n- newName: r.example:5000/team/car\n  name: *n",
        "place-ambiguous",
        "two entries",
    ),
    ("kubernetes, container: cat", DEPLOYMENT, "", "", "place-missing", "container `cat`"),
    (
        "kubernetes, container: car",
        DEPLOYMENT,
        "kind: Deployment",
        "kind: Widget",
        "place-missing",
        "no container",
    ),
    (
        "kubernetes, container: car",
        DEPLOYMENT,
        "team/car@",
        "team/cat@",
        "other-repository",
        "team/cat@",
    ),
    (
        "kubernetes, container: car",
        DEPLOYMENT,
        "        image:",
        "        picture:",
        "place-missing",
        "no `image:`",
    ),
    (
        "kubernetes, container: car",
        DEPLOYMENT,
        "containers:",
        "initContainers:\n      - {name: car, image: r.example:5000/team/car}\n      containers:",
        "place-ambiguous",
        "spec.template.spec.containers[0], spec.template.spec.initContainers[0]",
    ),
    (
        "kubernetes, container: car, workload: Deployment/cat",
        DEPLOYMENT,
        "",
        "",
        "place-missing",
        "Deployment/cat",
    ),
    ("helm, path: image", HELM, "team/car", "team/cat", "other-repository", "image.repository"),
    ("helm, path: image", HELM, "digest: OLD", "tag: v1", "place-missing", "no `digest:`"),
    ("helm, path: car.image", HELM, "", "", "place-missing", "no `car:`"),
    ("helm, path: image.digest", HELM, "team/car", "team/cat", "other-repository", "repository"),
    ("helm, path: image", HELM, "image:", "other: [*i]\nimage:", "file-unreadable", "nchor"),
    (
        "helm, path: image",
        HELM,
        "image:",
        "image: &i\n  x: y\nother: *i\nunused:",
        "scalar-form",
        "no scalar",
    ),
    ("compose, service: cat", COMPOSE, "", "", "place-missing", "no `cat:`"),
    ("compose, service: car", COMPOSE, "image:", "build:", "place-missing", "no `image:`"),
    ("compose, service: car", COMPOSE, "@OLD", ":${TAG}", "scalar-form", "variables"),
    ("argoImage, image: cat", ARGO, "", "", "place-missing", "kustomize.images"),
    ("argoImage, image: car", ARGO, "5000/team", "5000/deam", "other-repository", "deam"),
    ("argoImage, image: car", ARGO, "images:", "images:\n  - car:v1", "place-ambiguous", "twice"),
    ("argoParameter, parameter: tag", ARGO, "", "", "place-missing", "helm.parameters"),
    ("argoParameter, parameter: image.tag", ARGO, "v1@OLD", "v1", "scalar-form", "a tag can move"),
    ("flux, policy: 'ns:cat'", FLUX, "", "", "place-missing", "ns:cat"),
    ("flux, policy: 'ns:car'", FLUX, "ns:car", "ns:car:tag", "place-missing", "no digest"),
    (
        "flux, policy: 'ns:car'",
        FLUX,
        "a:",
        "b: x # {\"$imagepolicy\": \"ns:car\"}\na:",
        "place-ambiguous",
        "own",
    ),
    ("flux, policy: 'ns:car'", FLUX, "\na:", "", "ok", ""),
    (
        "flux, policy: 'ns:car'",
        FLUX,
        "a:",
        "b: r.example/other # {\"$imagepolicy\": \"ns:car:name\"}\na:",
        "other-repository",
        "r.example/other",
    ),
];

#[test]
fn what_cannot_be_edited_safely_is_refused() {
    for (about, text, from, to, code, want) in TABLE {
        let (kind, rest) = about.split_once(", ").unwrap();
        let target = target(&format!("{{kind: {kind}, file: f.yaml, {rest}}}"));
        let text = file(&text.replacen(from, to, 1));
        let answer = target.set(text.as_bytes(), &repository(), &pin());
        match answer {
            Ok(_) => assert_eq!(*code, "ok", "{about} {to}:\n{text}"),
            Err(refusal) => {
                assert_eq!(refusal.code(), *code, "{about} {to}: {refusal}\n{text}");
                assert!(refusal.to_string().contains(want), "{about} {to}: {refusal}");
            }
        }
    }
}

#[test]
fn giants_and_other_encodings_are_refused() {
    let target = target("{kind: compose, file: c.yaml, service: car}");
    let refused = |bytes: &[u8]| target.look(bytes, &repository()).unwrap_err().code();
    assert_eq!(refused(&vec![b'#'; yaml::MAX_FILE + 1]), "file-too-large");
    let wide: Vec<u8> = COMPOSE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(refused(&[&[0xff, 0xfe], &*wide].concat()), "file-encoding");
    assert_eq!(refused(b"a: \xff\xfe"), "file-encoding");
    let deep = format!("services: {}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(refused(deep.as_bytes()), "file-unreadable");
    let many = format!("services: [{}]", "a,".repeat(300_000));
    assert_eq!(refused(many.as_bytes()), "file-unreadable");
    assert_eq!(refused(b""), "place-missing");
    // As deep and as many as may be: in time and memory of no note.
    let row = format!("{}a{}", "[".repeat(40), "]".repeat(40));
    let much = format!("a:\n{}", format!("- {row} # {{\"$imagepolicy\": \"a:b\"}}\n").repeat(800));
    let flux = super::target("{kind: flux, file: f.yaml, policy: 'a:b'}");
    let started = std::time::Instant::now();
    let error = flux.look(much.as_bytes(), &repository()).unwrap_err();
    assert_eq!(error.code(), "place-ambiguous", "{error}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn targets_stay_inside_and_in_one_line() {
    for bad in ["../k.yaml", "/etc/k.yaml", "a/../k.yaml", ".git/config", "", "a\\nb"] {
        let text = format!("{{kind: kustomize, file: \"{bad}\", image: car}}");
        let target: Target = pitlane_release::yaml::read(&text, 1000).unwrap();
        assert!(target.check().is_err(), "{bad}");
    }
    let unknown = "{kind: kustomize, file: k.yaml, image: car, tag: x}";
    assert!(pitlane_release::yaml::read::<Target>(unknown, 1000).is_err());
    let unknown = "{kind: terraform, file: k.yaml, image: car}";
    assert!(pitlane_release::yaml::read::<Target>(unknown, 1000).is_err());
}
