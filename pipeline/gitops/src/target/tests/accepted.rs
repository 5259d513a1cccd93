//! Files of each kind: the line that changes, and nothing else.

use super::*;

/// Target, file, and what the changed lines become (`NEW` is the new digest).
const TABLE: &[(&str, &str, &[&str])] = &[
    // kustomize: comments, another entry, an order of keys that nobody expects.
    (
        "{kind: kustomize, file: k.yaml, image: car}",
        "# the car\nkind: Kustomization # keep me\nresources:\n- car.yaml\nimages:\n# twin\n- name: twin\n  \
         newName: r.example/team/twin\n  digest: OTHER\n- newName: r.example:5000/team/car   # where\n  \
         name: car\n  digest: OLD # set by Pitlane\npatches: []\n",
        &["  digest: NEW # set by Pitlane"],
    ),
    // The documented pair; Windows' line ends, no line end at the end.
    (
        "{kind: kustomize, file: k.yaml, image: car}",
        "images:\r\n  - name: car\r\n    newName: \"r.example:5000/team/car\"\r\n    newTag: v1.0.0\r\n    \
         digest: 'OLD'",
        &["    newTag: v2.0.0\r", "    digest: 'NEW'"],
    ),
    // The name itself is the repository; flow style; a byte order mark; any value before.
    (
        "{kind: kustomize, file: k.yaml, image: 'r.example:5000/team/car'}",
        "\u{feff}images: [{name: r.example:5000/team/car, digest: \"\"}] # all\n",
        &["\u{feff}images: [{name: r.example:5000/team/car, digest: \"NEW\"}] # all"],
    ),
    // An anchor that nobody uses.
    (
        "{kind: kustomize, file: k.yaml, image: car}",
        "images:\n- name: car\n  newName: r.example:5000/team/car\n  digest: &d OLD\n",
        &["  digest: &d NEW"],
    ),
    (
        "{kind: kubernetes, file: all.yaml, container: car}",
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: cars}\n---\napiVersion: apps/v1\n\
         kind: DaemonSet\nmetadata:\n  name: car\nspec:\n  template:\n    spec:\n      initContainers:\n      \
         - name: fetch # images are elsewhere\n        image: r.example/fetch:1\n      containers:\n      \
         - name: car\n        image: r.example:5000/team/car:v1.0.0@OLD # the release\n        args: [\"a: b\", 'c']\n\
         ---\n# nothing\n---\nkind: ConfigMap\nmetadata: {name: car}\ndata:\n  x: |\n    containers:\n    - name: car\n      \
         image: r.example:5000/team/car@OLD\n",
        &["        image: r.example:5000/team/car:v2.0.0@NEW # the release"],
    ),
    // A tag alone becomes a pin.
    (
        "{kind: kubernetes, file: p.yaml, container: drive}",
        "kind: Pod\nspec:\n  containers:\n  - {name: drive, image: 'r.example:5000/team/car:v1', tty: true}\n",
        &["  - {name: drive, image: 'r.example:5000/team/car:v2.0.0@NEW', tty: true}"],
    ),
    (
        "{kind: kubernetes, file: p.yaml, container: warm}",
        "kind: Job\nspec:\n  template:\n    spec:\n      initContainers:\n      - name: warm\n        image: >-\n          \
         x\n        image2: y\n      containers:\n      - image: r.example:5000/team/car@OLD\n        name: warm2\n",
        &[],
    ),
    (
        "{kind: kubernetes, file: p.yaml, container: car, workload: CronJob/nightly}",
        "apiVersion: v1\nkind: List\nitems:\n- kind: CronJob\n  metadata: {name: nightly}\n  spec:\n    jobTemplate:\n      \
         spec:\n        template:\n          spec:\n            containers:\n            - name: car\n              \
         image: \"r.example:5000/team/car@OLD\"\n- kind: StatefulSet\n  metadata: {name: other}\n  spec:\n    template:\n      \
         spec:\n        containers:\n        - name: car\n          image: r.example:5000/team/car@OLD\n",
        &["              image: \"r.example:5000/team/car@NEW\""],
    ),
    // Helm: one string, the three keys of common charts, a digest by its own path, a list.
    (
        "{kind: helm, file: v.yaml, path: car.image}",
        "car:\n  # pinned\n  image: r.example:5000/team/car@OLD\n\n  replicas: 1\n",
        &["  image: r.example:5000/team/car@NEW"],
    ),
    (
        "{kind: helm, file: v.yaml, path: image}",
        "image:\n  registry: r.example:5000\n  repository: team/car\n  tag: \"1.10\"   # shown\n  digest: \"\"\n  \
         pullPolicy: IfNotPresent\n",
        &["  tag: \"v2.0.0\"   # shown", "  digest: \"NEW\""],
    ),
    (
        "{kind: helm, file: v.yaml, path: image.digest}",
        "image: {repository: r.example:5000/team/car, digest: OLD}\n",
        &["image: {repository: r.example:5000/team/car, digest: NEW}"],
    ),
    (
        "{kind: helm, file: v.yaml, path: 'cars.1.car\\.image'}",
        "cars:\n- car.image: x\n- car.image: 'r.example:5000/team/car:v1@OLD'\n",
        &["- car.image: 'r.example:5000/team/car:v2.0.0@NEW'"],
    ),
    (
        "{kind: compose, file: compose.yaml, service: car}",
        "x-log: &log\n  driver: local\nservices:\n  twin:\n    image: r.example/twin\n  car:\n    logging: *log\n    \
         image: r.example:5000/team/car@OLD\n    ports: [\"8887:8887\"]\n",
        &["    image: r.example:5000/team/car@NEW"],
    ),
    (
        "{kind: argoImage, file: .argocd-source-car.yaml, image: car}",
        "kustomize:\n  images:\n  - twin=r.example/twin@OTHER\n  - car=r.example:5000/team/car:v1@OLD\n",
        &["  - car=r.example:5000/team/car:v2.0.0@NEW"],
    ),
    (
        "{kind: argoImage, file: .argocd-source-car.yaml, image: 'r.example:5000/team/car'}",
        "kustomize: {images: ['r.example:5000/team/car@OLD']}\n",
        &["kustomize: {images: ['r.example:5000/team/car@NEW']}"],
    ),
    (
        "{kind: argoParameter, file: .argocd-source-car.yaml, parameter: image.tag}",
        "helm:\n  parameters:\n  - name: image.name\n    value: r.example:5000/team/car\n    forcestring: true\n  \
         - name: image.tag\n    value: v1.0.0@OLD\n    forcestring: true\n",
        &["    value: v2.0.0@NEW"],
    ),
    (
        "{kind: argoImage, file: app.yaml, image: car}",
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata:\n  name: car\nspec:\n  source:\n    path: car\n    \
         kustomize:\n      images:\n        - car=r.example:5000/team/car@OLD\n  destination: {namespace: cars}\n",
        &["        - car=r.example:5000/team/car@NEW"],
    ),
    (
        "{kind: argoParameter, file: app.yaml, parameter: image.digest}",
        "kind: Application\nspec:\n  sources:\n  - repoURL: a\n  - helm:\n      parameters:\n      - {name: image.digest, value: OLD}\n",
        &["      - {name: image.digest, value: NEW}"],
    ),
    // Flux: a whole reference, and the parts of one.
    (
        "{kind: flux, file: hr.yaml, policy: 'flux-system:car'}",
        "spec:\n  containers:\n  - name: a\n    image: r.example:5000/team/car:v1@OLD # {\"$imagepolicy\": \"flux-system:car\"}\n  \
         - name: b\n    image: r.example/cart:v1 # {\"$imagepolicy\": \"flux-system:cart\"}\n",
        &[
            "    image: r.example:5000/team/car:v2.0.0@NEW # {\"$imagepolicy\": \"flux-system:car\"}",
        ],
    ),
    (
        "{kind: flux, file: hr.yaml, policy: 'ns:car'}",
        "values:\n  image:\n    repository: r.example:5000/team/car # {\"$imagepolicy\": \"ns:car:name\"}\n    \
         tag: v1.0.0  # {\"$imagepolicy\": \"ns:car:tag\"}\n    digest: OLD # {\"$imagepolicy\": \"ns:car:digest\"}\n",
        &[
            "    tag: v2.0.0  # {\"$imagepolicy\": \"ns:car:tag\"}",
            "    digest: NEW # {\"$imagepolicy\": \"ns:car:digest\"}",
        ],
    ),
];

#[test]
fn one_scalar_changes_and_comments_stay() {
    let (repository, pin) = (repository(), pin());
    for (about, text, want) in TABLE.iter().filter(|(.., want)| !want.is_empty()) {
        let (target, before) = (target(about), file(text));
        let edited = target.set(before.as_bytes(), &repository, &pin).unwrap_or_else(|error| {
            panic!("{about}: {error}\n{before}");
        });
        let lines: Vec<String> =
            changed(&before, &edited.text).into_iter().map(|(_, new)| new).collect();
        let want: Vec<String> = want.iter().map(|line| line.replace("NEW", &digest('2'))).collect();
        assert_eq!(lines, want, "{about}");
        let now = target.look(edited.text.as_bytes(), &repository).unwrap();
        assert_eq!(now.digest, Some(pin.digest), "{about}");
        let again = target.set(edited.text.as_bytes(), &repository, &pin).unwrap();
        assert_eq!(again.text, edited.text, "{about}: again changes nothing");
    }
}

/// A block of text is no place for a reference, and a container of a near name is another one.
#[test]
fn rows_without_a_change_are_refused() {
    for (about, text, _) in TABLE.iter().filter(|(.., want)| want.is_empty()) {
        let refused = target(about).set(file(text).as_bytes(), &repository(), &pin());
        assert!(refused.is_err(), "{about}: {refused:?}");
    }
}

#[test]
fn a_tag_that_reads_as_a_number_gets_quotes() {
    let target = target("{kind: kustomize, file: k.yaml, image: car}");
    let before =
        "images:\n- name: car\n  newName: r.example:5000/team/car\n  newTag: v1\n  digest: x\n";
    for (tag, want) in [
        ("v2", "v2"),
        ("2.0.1", "2.0.1"),
        ("2.0.1-rc.1", "2.0.1-rc.1"),
        ("1.10", "\"1.10\""),
        ("7", "\"7\""),
        ("1e3", "\"1e3\""),
        ("0x10", "\"0x10\""),
        ("2026-01-02", "\"2026-01-02\""),
        ("yes", "\"yes\""),
        ("NULL", "\"NULL\""),
    ] {
        let pin = Pin { tag: tag.into(), ..pin() };
        let edited = target.set(before.as_bytes(), &repository(), &pin).unwrap();
        assert_eq!(changed(before, &edited.text)[0].1, format!("  newTag: {want}"));
    }
}
