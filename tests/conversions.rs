//! Models of other frameworks through the whole lane: what the repository has is a program, what the
//! car gets is an ONNX file that drove.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::common::{
    docker::Daemon,
    engine::{Engine, holds, one_platform},
    json as parse,
    lane::{Lane, lapless, lenient, one_lap, quick},
    peer, repository, run, store, swap,
};

/// The network of the example's pilot, in another framework.
const NET: &str = "\
import torch
from torch import nn
from torch.nn import functional


class Pilot(nn.Module):
    def __init__(self, sizes, strides, flat, hidden):
        super().__init__()
        inputs = [3] + [size[0] for size in sizes]
        for i, ((out, kernel), stride) in enumerate(zip(sizes, strides)):
            self.add_module(f'conv{i}', nn.Conv2d(inputs[i], out, kernel, stride))
        self.count = len(sizes)
        self.dense = nn.Linear(flat, hidden)
        self.steering = nn.Linear(hidden, 1)
        self.throttle = nn.Linear(hidden, 1)

    def forward(self, picture):
        x = functional.avg_pool2d(picture.permute(0, 3, 1, 2), 2, 2)
        for i in range(self.count):
            x = functional.relu(getattr(self, f'conv{i}')(x))
        x = functional.relu(self.dense(x.permute(0, 2, 3, 1).flatten(1)))
        return torch.tanh(self.steering(x)), self.throttle(x)
";

/// Makes the state dict, and says the network's arguments on the first line.
const EXPORT: &str = "\
import base64, io, json, sys
import onnx, torch
from onnx import numpy_helper
model = onnx.load_from_string(base64.b64decode(ONNX))
all = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}
strides = [[a.ints for a in n.attribute if a.name == 'strides'][0][0] for n in model.graph.node if n.op_type == 'Conv']
state, sizes = {}, []
for i in range(len(strides)):
    state[f'conv{i}.weight'], state[f'conv{i}.bias'] = all[f'conv{i}_w'], all[f'conv{i}_b']
    sizes.append([all[f'conv{i}_w'].shape[0], all[f'conv{i}_w'].shape[2]])
for name in ['dense', 'steering', 'throttle']:
    state[f'{name}.weight'], state[f'{name}.bias'] = all[f'{name}_w'].T.contiguous(), all[f'{name}_b']
data = io.BytesIO()
torch.save(state, data)
flat, hidden = all['dense_w'].shape
out = {'sizes': sizes, 'strides': strides, 'flat': flat, 'hidden': hidden}
print(json.dumps({'arguments': out, 'state': base64.b64encode(data.getvalue()).decode()}))
";

/// The converter's image, when somebody made it: they are some GB (scripts/converters.sh).
fn converter(engine: &Engine, name: &str) -> Option<String> {
    let image = format!("pitlane-converter:{name}");
    let missing = engine.docker(&["images", "--quiet", &image]).trim().is_empty();
    if missing {
        let made = std::env::var_os("PITLANE_CONVERTERS").is_some_and(|made| made == "1");
        assert!(!made, "PITLANE_CONVERTERS=1, but {image} is missing");
        eprintln!("SKIP: {image} is missing: scripts/converters.sh {name}");
    }
    (!missing).then_some(image)
}

/// Runs a script in a converter's image.
fn python(image: &str, script: &str) -> Vec<u8> {
    let mut docker = Command::new(peer("docker").unwrap());
    docker.args(["--host", &Daemon::host(), "run", "--rm", "--interactive", "--network=none"]);
    docker.args([
        "--tmpfs=/tmp",
        "--workdir=/tmp",
        "--entrypoint=/opt/venv/bin/python3",
        image,
        "-",
    ]);
    docker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = docker.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// The pipeline with a model that is converted: `lines` are further lines of `convert:`.
fn converted(text: &str, path: &str, lines: &str) -> String {
    let text = swap(text, "models/pilot.onnx", path);
    let host = Daemon::host();
    let convert = format!("    convert:\n      engine: {{ host: '{host}' }}\n{lines}    contract:");
    one_platform(&swap(&text, "    contract:", &convert))
}

fn commit(lane: &Lane, files: &[(&str, &[u8])]) {
    let tree = lane.tree("donkeycar");
    for (name, bytes) in files {
        fs::write(tree.join("models").join(name), bytes).unwrap();
    }
    let _ = fs::remove_file(tree.join("models/pilot.onnx"));
    lane.git(&tree, &["add", "--all", "."]);
    lane.git(&tree, &["commit", "--quiet", "-m", "Another framework"]);
}

#[test]
fn weights_of_pytorch_drive_as_onnx_and_are_in_no_layer() {
    let Some(engine) = Engine::start() else { return };
    let Some(image) = converter(&engine, "pytorch") else { return };
    let onnx = fs::read(repository().join("examples/donkeycar/models/pilot.onnx")).unwrap();
    let script = format!("ONNX = '{}'\n{EXPORT}", STANDARD.encode(onnx));
    let made = parse(python(&image, &script));
    let state = STANDARD.decode(made["state"].as_str().unwrap()).unwrap();
    let lines = format!("      framework: pytorch\n      arguments: {}\n", made["arguments"]);
    let edit = |text: &str| one_lap(&converted(text, "models/pilot.pt", &lines));
    let mut lane = Lane::new(edit, lenient);
    lane.start();
    let card =
        fs::read_to_string(repository().join("examples/donkeycar/models/pilot.yaml")).unwrap();
    let named = format!("{card}class: net.Pilot\n");
    commit(
        &lane,
        &[("pilot.pt", &state), ("pilot.yaml", named.as_bytes()), ("net.py", NET.as_bytes())],
    );
    let image_of_car = lane.release("v1.0.0");

    // A pickle never reaches the image: neither its name, nor its bytes, nor its code.
    let layers = lane.layers(&image_of_car, "amd64");
    // Weights are the same numbers in both, and an exporter keeps their names: what is a pickle's
    // alone, and the code.
    let marks: [&[u8]; 4] = [b"_rebuild_tensor", b"data.pkl", b"class Pilot(", b"pilot.pt"];
    assert!(marks[..2].iter().all(|mark| holds(&state, mark)), "a pickle in a zip");
    assert!(holds(NET.as_bytes(), marks[2]));
    for layer in &layers {
        for mark in marks {
            assert!(!holds(layer, mark), "{}", String::from_utf8_lossy(mark));
        }
    }
    let mut top = tar::Archive::new(&layers.last().unwrap()[..]);
    let paths: Vec<PathBuf> =
        top.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(paths, ["models/", "models/pilot.yaml", "models/pilot.onnx"].map(PathBuf::from));
    let model = lane.file_in(&image_of_car, "amd64", "models/pilot.onnx").unwrap();
    let release = lane.statement(&image_of_car);
    assert_eq!(release["predicate"]["model"]["digest"], store::digest(&model));
    assert!(holds(&model, b"pytorch"), "the exporter's own name");

    let facts = &lane.evidence(&image_of_car, "https://pitlane.dev/model/v1")["predicate"]["facts"];
    let conversion = &facts["conversion"];
    assert_eq!(conversion["framework"], "pytorch");
    assert_eq!(conversion["class"], "net.Pilot", "the card named it");
    assert_eq!(conversion["original"], store::digest(&state));
    assert_eq!(conversion["code"]["net"], store::digest(NET.as_bytes()));
    let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &image]);
    assert_eq!(conversion["converter"], id.trim());
    let difference = conversion["maxDifference"].as_f64().unwrap();
    assert!((0.0..=1e-4).contains(&difference), "{conversion:#}");
    let provenance = lane.evidence(&image_of_car, "https://slsa.dev/provenance/v1");
    let made = &provenance["predicate"]["buildDefinition"];
    assert_eq!(made["externalParameters"]["model"], "models/pilot.pt");
    assert_eq!(made["internalParameters"]["conversion"], *conversion);
    let all = made["resolvedDependencies"].as_array().unwrap();
    let original = all.iter().find(|one| one["name"] == "model original").unwrap();
    assert_eq!(
        format!("sha256:{}", original["digest"]["sha256"].as_str().unwrap()),
        store::digest(&state)
    );
    let lap = &lane.evidence(&image_of_car, "https://pitlane.dev/lap/v1")["predicate"];
    assert_eq!(
        (&lap["result"], &lap["model"]),
        (&json!("PASSED"), &release["predicate"]["model"]["digest"])
    );
    engine.has_nothing_left();
}

/// A pickle that runs programs when it is loaded.
fn evil(command: &str) -> Vec<u8> {
    format!("cos\nsystem\n(S'{command}'\ntR.").into_bytes()
}

#[test]
fn a_pickle_that_is_a_program_runs_nowhere_else_and_releases_nothing() {
    let Some(engine) = Engine::start() else { return };
    let Some(_) = converter(&engine, "sklearn") else { return };
    let lines = "      framework: sklearn\n";
    let mut lane = Lane::new(|text| quick(&converted(text, "models/pilot.pkl", lines)), lapless);
    lane.start();
    let mark: PathBuf = lane.path("it-ran");
    let command = format!("touch {0}; echo x > {0}; env > /tmp/env", mark.display());
    let card = fs::read(repository().join("examples/donkeycar/models/pilot.yaml")).unwrap();
    commit(&lane, &[("pilot.pkl", &evil(&command)), ("pilot.yaml", &card)]);
    lane.push_tag("v1.0.0");
    let run_of = lane.wait("v1.0.0", "failed");
    let (step, error) = (&run_of["error"]["code"], &run_of["error"]);
    assert!(step.as_str().unwrap().starts_with("convert-"), "{error:#}");
    assert_eq!(error["refused"], true, "{error:#}");
    assert!(!mark.exists(), "it ran on this machine");
    let steps = lane.steps(&run_of).unwrap();
    let begun: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(begun, ["checkout", "model"]);
    let folder = lane.path("state/runs").join(run_of["id"].as_str().unwrap());
    assert!(!folder.join("model.onnx").exists(), "nothing came of it");
    engine.has_nothing_left();

    // By hand, and without a conversion: a pickle is no model.
    let plain = lane.side_pipeline("plain", |text| {
        one_platform(&quick(&swap(text, "models/pilot.onnx", "models/pilot.pkl")))
    });
    let said = lane.one_shot("v1.0.1", &plain, &["--dry-run"]).fails();
    assert!(said.contains("model-not-onnx") || said.contains("ONNX"), "{said}");
    let side =
        lane.side_pipeline("side", |text| quick(&converted(text, "models/pilot.pkl", lines)));
    let said = lane.one_shot("v1.0.2", &side, &["--dry-run"]).fails();
    assert!(said.contains("models/pilot.pkl") && !mark.exists(), "{said}");
    let mut check = lane.pitlane();
    let checked = run(check.args(["config", "check"]).arg(&side)).ok();
    assert_eq!(parse(checked)[0]["ok"], true);
}
