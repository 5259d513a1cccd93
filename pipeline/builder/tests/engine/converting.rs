//! Models of real frameworks, made by the frameworks themselves in their converter images; and
//! pickles that want everything but to be converted.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pitlane_builder::convert::{
    Conversion, ConvertError, ConvertLimits, Converted, Outcome, Request,
};
use pitlane_release::Digest;
use serde_json::json;

use super::support::{Engine, docker, nothing_left, until_empty, without_image};

/// The image for a framework, when it was made.
fn image(name: &str) -> Option<String> {
    let image = format!("pitlane-converter:{name}");
    let missing = docker(&["images", "--quiet", &image]).trim().is_empty();
    if missing {
        without_image(&format!("{image} is missing: scripts/converters.sh {name}"));
    }
    (!missing).then_some(image)
}

/// Runs a script in a converter image; what it writes to standard output is the model.
fn made_by(image: &str, script: &str) -> Vec<u8> {
    let mut python = Command::new("docker");
    python.env("DOCKER_HOST", format!("unix://{}", Engine::socket().display()));
    python.args([
        "run",
        "--rm",
        "--interactive",
        "--network=none",
        "--tmpfs=/tmp",
        "--workdir=/tmp",
    ]);
    python.args(["--entrypoint=/opt/venv/bin/python3", image, "-"]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

struct Case {
    dir: tempfile::TempDir,
    conversion: Conversion,
}

impl Case {
    fn new(
        image: &str,
        framework: &serde_json::Value,
        shape: &[u32],
        outputs: &[&str],
        model: &[u8],
    ) -> Self {
        let request: Request = serde_json::from_value(json!({
            "apiVersion": "pitlane.dev/v1", "kind": "ConversionRequest", "framework": framework,
            "input": {"name": "picture", "shape": shape}, "outputs": outputs, "opset": 15,
            "samples": {"count": 5, "seed": 7, "low": 0.0, "high": 1.0}, "tolerance": 0.0001
        }))
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.in");
        fs::write(&file, model).unwrap();
        let conversion = Conversion {
            request,
            model: file,
            code: BTreeMap::new(),
            image: image.into(),
            limits: ConvertLimits::default(),
            name: None,
        };
        Self { dir, conversion }
    }

    fn code(&mut self, name: &str, text: &str) {
        let file = self.dir.path().join(format!("{name}.py"));
        fs::write(&file, text).unwrap();
        self.conversion.code.insert(name.into(), file);
    }

    async fn convert(&self) -> Result<Converted, ConvertError> {
        Engine::builder().await.convert(&self.conversion).await
    }

    /// Converts, and looks at the file with ONNX Runtime in another container.
    async fn good(&self) -> f64 {
        let converted = self.convert().await.unwrap();
        assert_eq!(converted.digest, Digest::of(&converted.onnx));
        assert_eq!(converted.original, Digest::of(fs::read(&self.conversion.model).unwrap()));
        let Outcome::Converted { opset, max_difference, samples, versions } =
            converted.answer.outcome
        else {
            panic!("no file")
        };
        assert!(opset <= 15 && samples == 5 && !versions.is_empty());
        let bytes = &converted.onnx;
        let look = format!(
            "import onnxruntime, numpy, onnx\nraw = bytes({bytes:?})\nmodel = onnx.load_from_string(raw)\n\
             s = onnxruntime.InferenceSession(raw)\ni = s.get_inputs()[0]\n\
             out = s.run(None, {{i.name: numpy.full(i.shape, 0.5, numpy.float32)}})\n\
             print(model.ir_version, i.name, i.shape, [o.name for o in s.get_outputs()], [list(o.shape) for o in out])"
        );
        let said = String::from_utf8(made_by(&self.conversion.image, &look)).unwrap();
        let shape = format!("{:?}", self.conversion.request.input.shape);
        let names = format!("{:?}", self.conversion.request.outputs).replace('"', "'");
        let ones = format!("{:?}", vec![[1, 1]; self.conversion.request.outputs.len()]);
        assert_eq!(said.trim(), format!("8 picture {shape} {names} {ones}"));
        max_difference
    }
}

const TWO: [&str; 2] = ["steering", "throttle"];

#[tokio::test]
async fn scikit_learn() {
    let Some(_engine) = Engine::start() else { return };
    let Some(image) = image("sklearn") else { return };
    let script = "import sys, pickle, numpy\nfrom sklearn.neural_network import MLPRegressor\n\
         r = numpy.random.default_rng(1)\nx = r.random((200, 4*5*3)); y = numpy.c_[x.mean(1), x.max(1)]\n\
         m = MLPRegressor(hidden_layer_sizes=(16,), max_iter=30, random_state=1).fit(x, y)\npickle.dump(m, sys.stdout.buffer)\n";
    let model = made_by(&image, script);
    let case = Case::new(&image, &json!({"kind": "sklearn"}), &[1, 4, 5, 3], &TWO, &model);
    assert!(case.good().await < 1e-4);

    // A tolerance that no float keeps is a refusal, so the comparison is one.
    let mut strict = Case::new(&image, &json!({"kind": "sklearn"}), &[1, 4, 5, 3], &TWO, &model);
    strict.conversion.request.tolerance = 0.0;
    let got = strict.convert().await;
    assert!(
        matches!(&got, Err(ConvertError::Refused { code, .. }) if code == "differs"),
        "{got:?}"
    );
    let three =
        Case::new(&image, &json!({"kind": "sklearn"}), &[1, 4, 5, 3], &["a", "b", "c"], &model);
    let got = three.convert().await;
    assert!(matches!(&got, Err(ConvertError::Refused { .. })), "three outputs of two: {got:?}");
    let wrong = Case::new(&image, &json!({"kind": "torchscript"}), &[1, 4, 5, 3], &TWO, &model);
    let got = wrong.convert().await;
    assert!(matches!(&got, Err(ConvertError::Refused { code, .. }) if code == "import"), "{got:?}");
}

const NET: &str = "import torch\nclass Pilot(torch.nn.Module):\n    def __init__(self, width):\n        super().__init__()\n\
    \x20       self.body = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.Flatten())\n\
    \x20       self.steering = torch.nn.Linear(width * 2 * 3, 1)\n        self.throttle = torch.nn.Linear(width * 2 * 3, 1)\n\
    \x20   def forward(self, x):\n        x = self.body(x)\n        return self.steering(x), self.throttle(x)\n";

#[tokio::test]
async fn pytorch_and_torchscript() {
    let Some(_engine) = Engine::start() else { return };
    let Some(image) = image("pytorch") else { return };
    let kind = json!({"kind": "pytorch", "class": "net.Pilot", "arguments": {"width": 4}});
    let save = |what: &str| {
        format!(
            "{NET}import sys, io\nm = Pilot(4); b = io.BytesIO()\n{what}\nsys.stdout.buffer.write(b.getvalue())\n"
        )
    };
    let state = made_by(&image, &save("torch.save(m.state_dict(), b)"));
    let mut case = Case::new(&image, &kind, &[1, 3, 4, 5], &TWO, &state);
    case.code("net", NET);
    assert!(case.good().await < 1e-4);

    case.code("net", &NET.replace("Conv2d(3, width, 3)", "Conv2d(3, width, 2)"));
    let got = case.convert().await;
    assert!(
        matches!(&got, Err(ConvertError::Refused { code, .. }) if code == "state-dict"),
        "{got:?}"
    );
    case.code("net", "");
    let got = case.convert().await;
    assert!(matches!(&got, Err(ConvertError::Refused { code, .. }) if code == "class"), "{got:?}");

    // Not even there is a whole pickled model loaded where weights were promised.
    let whole = made_by(&image, &save("torch.save(m, b)"));
    let mut case = Case::new(&image, &kind, &[1, 3, 4, 5], &TWO, &whole);
    case.code("net", NET);
    let got = case.convert().await;
    assert!(
        matches!(&got, Err(ConvertError::Refused { code, .. }) if code == "state-dict"),
        "{got:?}"
    );

    let script =
        made_by(&image, &save("torch.jit.save(torch.jit.trace(m, torch.zeros(1, 3, 4, 5)), b)"));
    let case = Case::new(&image, &json!({"kind": "torchscript"}), &[1, 3, 4, 5], &TWO, &script);
    assert!(case.good().await < 1e-4);
}

#[tokio::test]
async fn keras_and_tflite() {
    let Some(_engine) = Engine::start() else { return };
    let Some(image) = image("tensorflow") else { return };
    let save = |what: &str| {
        format!(
            "import os, sys\nout = os.fdopen(os.dup(1), 'wb'); os.dup2(2, 1)\nimport tensorflow as tf\nk = tf.keras\n\
             i = k.Input((4, 5, 3), batch_size=1); x = k.layers.Conv2D(4, 3, activation='relu')(i); x = k.layers.Flatten()(x)\n\
             m = k.Model(i, [k.layers.Dense(1, name='n0')(x), k.layers.Dense(1, name='n1')(x)])\n{what}\n"
        )
    };
    let file = |end: &str| {
        save(&format!("m.save('/tmp/m.{end}'); out.write(open('/tmp/m.{end}', 'rb').read())"))
    };
    for end in ["keras", "h5"] {
        let model = made_by(&image, &file(end));
        let case = Case::new(&image, &json!({"kind": "keras"}), &[1, 4, 5, 3], &TWO, &model);
        assert!(case.good().await < 1e-4, "{end}");
    }
    let lite =
        made_by(&image, &save("out.write(tf.lite.TFLiteConverter.from_keras_model(m).convert())"));
    let case = Case::new(&image, &json!({"kind": "tflite"}), &[1, 4, 5, 3], &TWO, &lite);
    assert!(case.good().await < 1e-4);
}

/// A pickle that runs this Python when it is loaded.
fn pickle(code: &str) -> Vec<u8> {
    // Protocol 0: `c` names builtins.exec, `(`, `V`, `}` and `t` make its arguments, `R` calls it.
    let escaped: String = code
        .chars()
        .map(|c| match c {
            '\n' => "\\u000a".to_owned(),
            '\\' => "\\u005c".to_owned(),
            c => c.to_string(),
        })
        .collect();
    format!("cbuiltins\nexec\n(V{escaped}\n}}tR.").into_bytes()
}

async fn attack(image: &str, code: &str, change: impl FnOnce(&mut ConvertLimits)) -> ConvertError {
    let mut case = Case::new(image, &json!({"kind": "sklearn"}), &[1, 4], &["y"], &pickle(code));
    case.conversion.limits.seconds = 60;
    change(&mut case.conversion.limits);
    let error = case.convert().await.expect_err(code);
    until_empty(&["ps", "--all", "--quiet", "--filter", "label=dev.pitlane=convert"]).await;
    error
}

#[tokio::test]
async fn pickles_that_attack_get_nothing_and_leave_nothing() {
    let Some(_engine) = Engine::start() else { return };
    let Some(image) = image("sklearn") else { return };
    // What it could reach is told by its exit: 0 is nothing of it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let canary = tempfile::NamedTempFile::new().unwrap();
    let reach = format!(
        "import os, socket, sys\n\
         got = []\n\
         for a in [('127.0.0.1', {port}), ('169.254.169.254', 80), ('192.0.2.1', 80)]:\n    \
             try:\n        socket.create_connection(a, 2); got.append(str(a))\n    except OSError: pass\n\
         got += [i for i in os.listdir('/sys/class/net') if i != 'lo']\n\
         for p in ['{canary}', '/var/run/docker.sock', '/run/docker.sock', '/etc/shadow']:\n    \
             try:\n        open(p); got.append(p)\n    except OSError: pass\n\
         for p in ['/opt/converter/convert.py', '/etc/passwd', '/x', '/proc/sys/kernel/core_pattern', '/dev/shm/../x']:\n    \
             try:\n        open(p, 'a'); got.append('writes ' + p)\n    except OSError: pass\n\
         s = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n\
         got += [k for k in ['CapEff', 'CapPrm', 'CapBnd', 'CapAmb'] if int(s[k], 16)]\n\
         got += [] if s['NoNewPrivs'] == '1' and s['Seccomp'] == '2' and os.getuid() == 65532 else ['rights']\n\
         try:\n    os.setuid(0); got.append('root')\nexcept OSError: pass\n\
         got += [k for k in os.environ if not k.startswith('KMP_') and k not in ('PATH', 'HOSTNAME', 'HOME', 'PYTHONDONTWRITEBYTECODE', 'MPLCONFIGDIR', 'ORT_DISABLE_TELEMETRY', 'LC_CTYPE')]\n\
         raise ValueError('reached ' + repr(got))\n",
        canary = canary.path().display(),
    );
    let error = attack(&image, &reach, |_| {}).await;
    let ConvertError::Refused { code, message } = &error else { panic!("{error}") };
    assert_eq!(code, "unreadable");
    assert!(message.ends_with("reached []"), "{message}");
    assert!(listener.accept().is_err(), "somebody called");

    let error = attack(&image, "while True: pass", |limits| limits.seconds = 6).await;
    assert!(matches!(error, ConvertError::TimedOut { seconds: 6 }), "{error}");

    let begun = Instant::now();
    let bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass";
    let error = attack(&image, bomb, |limits| (limits.seconds, limits.processes) = (8, 32)).await;
    assert!(matches!(error, ConvertError::TimedOut { seconds: 8 }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(90));

    let error =
        attack(&image, "x = []\nwhile True: x.append(bytearray(b'x' * (1 << 24)))", |limits| {
            limits.memory = 400 << 20;
        })
        .await;
    assert!(matches!(error, ConvertError::OutOfMemory { .. }), "{error}");

    // It finds the real output beside the one that was put in its place.
    let flood = "import os\nfor fd in range(3, 20):\n    try:\n        while True: os.write(fd, b'x' * (1 << 20))\n    except OSError: pass";
    let error = attack(&image, flood, |limits| limits.model_bytes = 1 << 20).await;
    assert!(matches!(error, ConvertError::TooMuchOutput { .. }), "{error}");
    let words = "import os\nwhile True: os.write(2, b'x' * (1 << 20))";
    let error = attack(&image, words, |limits| limits.model_bytes = 1 << 20).await;
    assert!(matches!(error, ConvertError::TooMuchOutput { .. }), "{error}");

    let error = attack(&image, "import os\nos._exit(0)", |_| {}).await;
    assert!(matches!(error, ConvertError::NoAnswer { code: 0, .. }), "{error}");
    // It fills what it can write to; that is its own memory.
    let fill = "f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20))";
    let error = attack(&image, fill, |limits| limits.scratch = 64 << 20).await;
    assert!(
        matches!(&error, ConvertError::Refused { message, .. } if message.contains("No space")),
        "{error}"
    );
}

/// A model can lie about itself, and then is a stranger's ONNX like any other; it cannot lie about
/// what was asked for.
#[tokio::test]
async fn a_forged_answer_is_an_onnx_file_of_a_stranger_at_most() {
    let Some(_engine) = Engine::start() else { return };
    let Some(image) = image("sklearn") else { return };
    let forge = |answer: &str| {
        format!(
            "import os, sys\nsys.path.insert(0, '/opt/converter')\nimport __main__ as c\n\
             out = next(os.fdopen(f, 'wb') for f in range(3, 20) if os.path.realpath('/proc/self/fd/%d' % f).startswith('/proc/self/fd/pipe') or 'pipe' in os.readlink('/proc/self/fd/%d' % f))\n\
             c.send(out, dict({answer}), b'not onnx')\nos._exit(0)\n"
        )
    };
    let head = "apiVersion='pitlane.dev/v1', kind='Conversion', outcome='converted', versions={}";
    let lie = forge(&format!("{head}, opset=15, maxDifference=0, samples=5"));
    let mut case = Case::new(&image, &json!({"kind": "sklearn"}), &[1, 4], &["y"], &pickle(&lie));
    case.conversion.limits.seconds = 60;
    let converted = case.convert().await.unwrap();
    assert_eq!(converted.onnx, b"not onnx", "the step `model` refuses it");
    let lie = forge(&format!("{head}, opset=99, maxDifference=0, samples=5"));
    let error = attack(&image, &lie, |_| {}).await;
    assert!(matches!(error, ConvertError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_dropped_conversion_leaves_nothing() {
    let Some(_engine) = Engine::start() else { return };
    let Some(image) = image("sklearn") else { return };
    let mark = format!("{}", 80_000 + std::process::id() % 10_000);
    let sleep = format!("import os\nos.execvp('sleep', ['sleep', '{mark}'])");
    let case = Case::new(&image, &json!({"kind": "sklearn"}), &[1, 4], &["y"], &pickle(&sleep));
    let got = tokio::time::timeout(Duration::from_secs(8), case.convert()).await;
    assert!(got.is_err(), "{got:?}");
    nothing_left(&format!("sleep\0{mark}")).await;
    until_empty(&["ps", "--all", "--quiet", "--filter", "label=dev.pitlane=convert"]).await;
}

#[tokio::test]
async fn wrong_requests_start_nothing() {
    let Some(_engine) = Engine::start() else { return };
    let missing =
        Case::new("pitlane-converter:none", &json!({"kind": "keras"}), &[1, 4], &["y"], b"x");
    let got = missing.convert().await;
    assert!(matches!(got, Err(ConvertError::ImageMissing { .. })), "{got:?}");
    let mut large = Case::new("x", &json!({"kind": "keras"}), &[1, 4], &["y"], &[0; 100]);
    large.conversion.limits.model_bytes = 99;
    assert!(matches!(large.convert().await, Err(ConvertError::File { .. })));
    let mut linked = Case::new("x", &json!({"kind": "keras"}), &[1, 4], &["y"], b"x");
    let link = linked.dir.path().join("link");
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    linked.conversion.model = link;
    assert!(matches!(linked.convert().await, Err(ConvertError::File { .. })));
    for change in [
        |r: &mut Request| r.opset = 18,
        |r: &mut Request| r.input.shape = vec![2, 4],
        |r: &mut Request| r.input.shape = vec![1, u32::MAX, u32::MAX, u32::MAX],
        |r: &mut Request| r.outputs = vec!["y".into(), "y".into()],
        |r: &mut Request| r.outputs = vec!["a b".into()],
        |r: &mut Request| r.tolerance = f64::NAN,
        |r: &mut Request| r.samples.count = 0,
        |r: &mut Request| {
            r.framework =
                serde_json::from_value(json!({"kind": "pytorch", "class": "os"})).unwrap();
        },
    ] {
        let mut case = Case::new("x", &json!({"kind": "keras"}), &[1, 4], &["y"], b"x");
        change(&mut case.conversion.request);
        assert!(matches!(case.convert().await, Err(ConvertError::Request(_))));
    }
}
