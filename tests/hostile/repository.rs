//! Car repositories: what a tag may name, what may lie where the model should, and what a
//! repository may tell git to run.

use std::{cell::Cell, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::{
    Answer, Table,
    world::{Pushed, World},
};

const FILE: &str = "100644";
const LINK: &str = "120000";
const MODULE: &str = "160000";
const MODEL: &str = "models/pilot.onnx";
const CARD: &str = "models/pilot.yaml";
/// The pipeline's limit for models, in bytes.
const MODEL_LIMIT: usize = 4_194_304;
const CARD_LIMIT: usize = 65_536;

/// Makes objects in the car repository's work tree and pushes them as tags.
pub(super) struct Maker<'a> {
    world: &'a World,
    tree: PathBuf,
    tags: Cell<u32>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, tree: world.lane.tree("donkeycar"), tags: Cell::new(0) }
    }

    fn git(&self, args: &[&str]) -> String {
        self.world.lane.git(&self.tree, args)
    }

    /// A blob.
    pub(super) fn blob(&self, bytes: &[u8]) -> String {
        let file = self.tree.join("scratch");
        fs::write(&file, bytes).unwrap();
        self.git(&["hash-object", "-w", "--no-filters", "scratch"])
    }

    /// What the good commit has at a path.
    fn good(&self, path: &str) -> String {
        self.git(&["rev-parse", &format!("HEAD:{path}")])
    }

    /// A tree of these entries: mode, object, path.
    fn tree(&self, entries: &[(&str, &str, &str)]) -> String {
        self.git(&["read-tree", "--empty"]);
        for (mode, object, path) in entries {
            let entry = format!("{mode},{object},{path}");
            self.git(&["update-index", "--add", "--cacheinfo", &entry]);
        }
        self.git(&["write-tree"])
    }

    /// A commit of these entries alone.
    pub(super) fn commit(&self, entries: &[(&str, &str, &str)]) -> String {
        let tree = self.tree(entries);
        self.git(&["commit-tree", &tree, "-m", "Something"])
    }

    /// A commit with this model and the good card.
    fn model(&self, mode: &str, object: &str) -> String {
        self.commit(&[(mode, object, MODEL), (FILE, &self.good(CARD), CARD)])
    }

    /// A commit with this card and the good model.
    pub(super) fn card(&self, mode: &str, object: &str) -> String {
        self.commit(&[(FILE, &self.good(MODEL), MODEL), (mode, object, CARD)])
    }

    /// Pushes an object as a new tag, and what a delivery tells of it.
    pub(super) fn tag(&self, object: &str) -> Pushed {
        self.tags.set(self.tags.get() + 1);
        let tag = format!("v7.0.{}", self.tags.get());
        let bare = self.world.lane.bare("donkeycar");
        self.git(&[
            "push",
            "--quiet",
            bare.to_str().unwrap(),
            &format!("{object}:refs/tags/{tag}"),
        ]);
        Pushed { tag, object: object.to_owned(), commit: object.to_owned() }
    }

    /// An object of a kind that git reads from a file as it is, right or not.
    fn raw(&self, kind: &str, text: &str) -> String {
        fs::write(self.tree.join("scratch"), text).unwrap();
        self.git(&["hash-object", "-w", "--literally", "-t", kind, "scratch"])
    }

    /// Makes git's configuration of the pushed-to repository, and attributes, run a program that
    /// leaves this file, wherever git would run one.
    fn trap(&self) -> (PathBuf, Vec<&'static str>) {
        let (bare, mark) = (self.world.lane.bare("donkeycar"), self.world.lane.path("trapped"));
        let script = self.world.lane.path("trap.sh");
        fs::write(&script, format!("#!/bin/sh\ntouch {}\nexec \"$@\"\n", mark.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let hooks = self.world.lane.path("trap-hooks");
        fs::create_dir_all(&hooks).unwrap();
        for hook in ["post-checkout", "reference-transaction", "pre-auto-gc", "post-index-change"] {
            fs::copy(&script, hooks.join(hook)).unwrap();
        }
        let script = script.to_str().unwrap();
        let set = [
            ("uploadpack.packObjectsHook", script),
            ("core.hooksPath", hooks.to_str().unwrap()),
            ("core.fsmonitor", script),
            ("core.sshCommand", script),
            ("core.gitProxy", script),
            ("filter.trap.smudge", script),
            ("filter.trap.process", script),
            ("diff.external", script),
        ];
        for (name, value) in set {
            self.world.lane.git(&bare, &["config", name, value]);
        }
        (mark, set.map(|(name, _)| name).to_vec())
    }

    fn untrap(&self, names: &[&str]) {
        for name in names {
            self.world.lane.git(&self.world.lane.bare("donkeycar"), &["config", "--unset", name]);
        }
    }
}

type Make = fn(&Maker<'_>) -> Pushed;

/// What it is, how it is made, the code of the failed run, its words.
const ROWS: &[(&str, Make, &str, &str)] = rows! {
    "a link as model": |m| m.tag(&m.model(LINK, &m.blob(b"/etc/passwd")))
        => "checkout-failed", "models/pilot.onnx: is a link or submodule (mode 120000); commit \
           the file itself";
    "a link as card": |m| m.tag(&m.card(LINK, &m.blob(b"../../../../etc/passwd")))
        => "checkout-failed", "models/pilot.yaml: is a link or submodule (mode 120000); commit \
           the file itself";
    "a link as folder of the model": |m| {
        m.tag(&m.commit(&[(LINK, &m.blob(b"/etc"), "models")]))
    } => "checkout-failed", "models/pilot.onnx: not in commit COMMIT; the pipeline's \
           `spec.model` names it";
    "a submodule as model": |m| m.tag(&m.model(MODULE, &"1".repeat(40)))
        => "checkout-failed", "models/pilot.onnx: is no file in commit COMMIT";
    "a submodule as folder of the model": |m| {
        m.tag(&m.commit(&[(MODULE, &"1".repeat(40), "models")]))
    } => "checkout-failed", "models/pilot.onnx: not in commit COMMIT; the pipeline's \
           `spec.model` names it";
    "a folder as model": |m| {
        let inside = m.blob(b"x");
        m.tag(&m.commit(&[(FILE, &inside, "models/pilot.onnx/x"), (FILE, &inside, CARD)]))
    } => "checkout-failed", "models/pilot.onnx: is no file in commit COMMIT";
    "no model": |m| m.tag(&m.commit(&[(FILE, &m.good(CARD), CARD)]))
        => "checkout-failed", "models/pilot.onnx: not in commit COMMIT; the pipeline's \
           `spec.model` names it";
    "no card": |m| m.tag(&m.commit(&[(FILE, &m.good(MODEL), MODEL)]))
        => "checkout-failed", "models/pilot.yaml: not in commit COMMIT; the pipeline's \
           `spec.model` names it";
    "a model under another case": |m| {
        let (model, card) = (m.good(MODEL), m.good(CARD));
        m.tag(&m.commit(&[(FILE, &model, "Models/pilot.onnx"), (FILE, &card, CARD)]))
    } => "checkout-failed", "models/pilot.onnx: not in commit COMMIT; the pipeline's \
           `spec.model` names it";
    "no files at all": |m| m.tag(&m.commit(&[]))
        => "checkout-failed", "models/pilot.onnx: not in commit COMMIT; the pipeline's \
           `spec.model` names it";
    "a model too large": |m| m.tag(&m.model(FILE, &m.blob(&vec![0; MODEL_LIMIT + 1])))
        => "checkout-failed", "models/pilot.onnx: 4194305 bytes, at most 4194304 are taken \
           (`spec.model.contract.maxBytes`)";
    "a card too large": |m| {
        m.tag(&m.card(FILE, &m.blob(&vec![b'#'; CARD_LIMIT + 1])))
    } => "checkout-failed", "models/pilot.yaml: 65537 bytes, at most 65536 are taken";
    "a card that is no text": |m| m.tag(&m.card(FILE, &m.blob(b"name: \xff\xfe")))
        => "checkout-failed", "models/pilot.yaml: not UTF-8: stream did not contain valid UTF-8";
    "a tag of a file": |m| m.tag(&m.blob(b"not a commit"))
        => "checkout-failed", "refs/tags/TAG names no commit: git: error: \
           refs/tags/TAG^{commit}: expected commit type, but the object dereferences to blob \
           type; fatal: Needed a single revision";
    "a tag of a folder": |m| m.tag(&m.tree(&[(FILE, &m.good(MODEL), MODEL)]))
        => "checkout-failed", "refs/tags/TAG names no commit: git: error: \
           refs/tags/TAG^{commit}: expected commit type, but the object dereferences to tree \
           type; fatal: Needed a single revision";
    "a tag of a tag of a file": |m| {
        let blob = m.blob(b"not a commit either");
        let tag = format!("object {blob}\ntype blob\ntag x\ntagger A <a@b> 0 +0000\n\nx\n");
        m.tag(&m.raw("tag", &tag))
    } => "checkout-failed", "refs/tags/TAG names no commit: git: error: \
           refs/tags/TAG^{commit}: expected commit type, but the object dereferences to blob \
           type; fatal: Needed a single revision";
    "a tag that is gone": |m| {
        let pushed = m.tag(&m.model(FILE, &m.blob(b"gone")));
        let bare = m.world.lane.bare("donkeycar");
        m.world.lane.git(&bare, &["update-ref", "-d", &format!("refs/tags/{}", pushed.tag)]);
        pushed
    } => "checkout-failed", "fetching tag TAG from DIR/state/git/team/donkeycar.git: git: \
           fatal: couldn't find remote ref refs/tags/TAG";
    "a tag at another commit than was told": |m| {
        let pushed = m.tag(&m.model(FILE, &m.good(MODEL)));
        Pushed { commit: "2".repeat(40), ..pushed }
    } => "tag-moved", "tag TAG was announced at COMMIT, the repository has it at OBJECT";
    "a commit of the year 300000000": |m| {
        let tree = m.tree(&[(FILE, &m.good(MODEL), MODEL), (FILE, &m.good(CARD), CARD)]);
        let who = "A <a@b> 9467077660800000 +0000";
        m.tag(&m.raw("commit", &format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n")))
    } => "checkout-failed", "commit COMMIT was made at 9467077660800000 s, which is no time: \
           parameter 'Unix timestamp seconds' is not in the required range of \
           -377705023201..=253402207200";
    "a pointer to a large file that nobody pushed": |m| {
        let zeros = "0".repeat(64);
        let spec = "version https://git-lfs.github.com/spec/v1";
        let model = m.blob(format!("{spec}\noid sha256:{zeros}\nsize 1\n").as_bytes());
        let attributes = m.blob(b"*.onnx filter=lfs diff=lfs merge=lfs -text\n");
        let card = m.good(CARD);
        let entries =
            [(FILE, &model, MODEL), (FILE, &card, CARD), (FILE, &attributes, ".gitattributes")];
        m.tag(&m.commit(&entries.map(|(mode, id, path)| (mode, id.as_str(), path))))
    } => "lfs-object", "models/pilot.onnx: a Git LFS pointer to sha256:ZEROS (1 bytes): it is not \
           at DIR/state/git/team/donkeycar.git/lfs/objects/00/00/ZEROS";
    "a pointer to a file that is too large": |m| {
        let zeros = "0".repeat(64);
        let spec = "version https://git-lfs.github.com/spec/v1";
        let model = m.blob(format!("{spec}\noid sha256:{zeros}\nsize 99999999\n").as_bytes());
        m.tag(&m.model(FILE, &model))
    } => "checkout-failed", "models/pilot.onnx: a Git LFS pointer to 99999999 bytes, at most \
           4194304 are taken (`spec.model.contract.maxBytes`)";
};

#[test]
fn repositories() {
    let world = World::new();
    let mut table = Table::default();
    let maker = Maker::new(&world);
    for (what, make, code, says) in ROWS {
        let pushed = make(&maker);
        let mut got = world.run_fails(&mut table, what, &pushed);
        got.says = got.says.replace(&pushed.object, "OBJECT").replace(&"0".repeat(64), "ZEROS");
        table.row(what, &got, code, says);
    }
    trapped(&maker, &mut table);
    damaged(&maker, &mut table);
    table.end(ROWS.len() + 2);
}

/// A repository whose configuration and attributes run programs: none is run.
fn trapped(maker: &Maker<'_>, table: &mut Table) {
    let what = "programs in configuration, hooks and attributes";
    let attributes = maker.blob(b"* filter=trap diff=trap\n");
    let model = maker.blob(b"no model");
    let card = maker.good(CARD);
    let commit = maker.commit(&[
        (FILE, &attributes, ".gitattributes"),
        (FILE, &model, MODEL),
        (FILE, &card, CARD),
    ]);
    let pushed = maker.tag(&commit);
    let (mark, names) = maker.trap();
    let got = maker.world.run_fails(table, what, &pushed);
    if mark.exists() {
        table.note(what, "a program was run");
    }
    maker.untrap(&names);
    let says = "models/pilot.onnx: field 13 of message Model is not in the ONNX specification up \
                to IR version 10: export with an older IR version";
    table.row(what, &got, "model-unknown-field", says);
}

/// A repository with an object that is not what its name says.
fn damaged(maker: &Maker<'_>, table: &mut Table) {
    let what = "an object that is damaged on the server";
    let model = maker.blob(b"this model will be damaged");
    let pushed = maker.tag(&maker.model(FILE, &model));
    let bare = maker.world.lane.bare("donkeycar");
    let object = bare.join("objects").join(&model[..2]).join(&model[2..]);
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, b"not even packed").unwrap();
    let got = maker.world.run_fails(table, what, &pushed);
    // What git says after that differs from version to version.
    let says = got.says.split("  ").next().unwrap_or_default();
    table.row(
        what,
        &Answer::new(got.code, says),
        "checkout-failed",
        "fetching tag TAG from DIR/state/git/team/donkeycar.git: git: remote: error: inflate: data \
         stream error (incorrect header check)",
    );
}
