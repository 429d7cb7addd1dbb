//! Samples that are more than rows: stretches of a signal and images, from their training data to what is watched on a device.

use crate::fleet::{Collector, agent, agent_config, baseline, must, root, run, status, wait_for};
use driftline_agent::bundle::Bundle;
use driftline_shared::manifest::Sampled;
use driftline_shared::random::Random;
use image::{GrayImage, Luma};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A vibration of 50 readings a period with some noise, `times` as strong.
pub(crate) fn vibration(path: &Path, rows: usize, times: f64) {
    let mut random = Random::new(rows as u64);
    let mut table = "accel\n".to_owned();
    for at in 0..rows {
        let _ =
            writeln!(table, "{:.5}", times * (at as f64 * std::f64::consts::TAU / 50.0).sin() + 0.2 * random.normal());
    }
    fs::write(path, table).expect("a table");
}

fn names(bundle: &Path) -> Vec<String> {
    let bundle = Bundle::read(bundle).expect("a bundle");
    bundle.baseline().features.iter().map(|f| f.name.to_string()).collect()
}

#[test]
fn a_signal_is_cut_into_samples_and_watched_by_its_figures() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (train, live) = (dir.join("train.csv"), dir.join("live.csv"));
    vibration(&train, 40_000, 1.0);
    let more = ["--signal-hop", "64", "--window", "1s", "--window-samples", "40", "--name", "bearing"];
    let made = baseline(dir, "corpus/nn-cnn1d-1x128.onnx", &train, &more);
    let bundle = dir.join("bearing.bundle");
    fs::rename(made, &bundle).expect("a bundle");
    let schema = Bundle::read(&bundle).expect("a bundle").schema().clone();
    assert!(matches!(schema.sampled, Some(Sampled::Signal { length: 128, hop: 64, planar: true, .. })), "{schema:?}");
    assert_eq!(names(&bundle)[..5], ["accel.mean", "accel.rms", "accel.peak", "accel.kurtosis", "accel.crossings"]);

    // 128 readings, and then 64 for each further sample; a row that cannot be read begins anew.
    vibration(&live, 6_464, 1.0);
    let text = fs::read_to_string(&live).expect("the table").replacen("\n", "\n?\n", 1);
    fs::write(&live, text).expect("a table");
    let collector = Collector::start(dir, None, "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let config =
        agent_config(dir, "press-1", collector.mqtt_port, Some(&bundle), &format!("kind = \"csv\"\npath = {live:?}"));
    let mut process = agent(dir, "press-1", &config);
    assert!(process.wait().success());
    assert!(process.said().contains("101 samples taken: 100 in windows, 1 refused"), "{}", process.said());

    // Twice as strong: the fleet's view names what changed.
    vibration(&live, 400_000, 2.0);
    let source = format!("kind = \"csv\"\npath = {live:?}\nrate_hz = 3000.0\nloop = true");
    let config = agent_config(dir, "press-2", collector.mqtt_port, Some(&bundle), &source);
    let mut process = agent(dir, "press-2", &config);
    let title = wait_for("an incident", || collector.get("incidents")["items"][0]["title"].as_str().map(str::to_owned));
    assert!(title.starts_with("accel.rms moved up") || title.starts_with("accel.peak moved up"), "{title}");
    process.terminate();
    assert!(process.wait().success());

    // Channels side by side in time, as an LSTM takes them.
    let mut table = "a,b,c,d\n".to_owned();
    (0..2_000).for_each(|at| writeln!(table, "{at},{},{},1", at % 7, at % 3).expect("text"));
    fs::write(&train, table).expect("a table");
    let made = baseline(dir, "corpus/nn-lstm-two.onnx", &train, &["--signal-hop", "16", "--window", "10s"]);
    let schema = Bundle::read(&made).expect("a bundle").schema().clone();
    assert!(matches!(schema.sampled, Some(Sampled::Signal { length: 32, hop: 16, planar: false, .. })), "{schema:?}");
    let mut command = Command::new(crate::fleet::binary("driftline"));
    command.args(["baselines", "create", "--signal-hop", "16", "--features", "a,b,c", "--data"]).arg(&train);
    let (code, _, error) = run(command.arg("--model").arg(root().join("tests/models/corpus/nn-lstm-two.onnx")));
    assert!(code == 1 && error.contains("3 channels cannot share"), "{error}");
}

/// Noise around a grey; how bright and how much.
pub(crate) fn picture(path: &Path, random: &mut Random, brightness: f64) {
    let pixel = |_, _| Luma([(brightness + 20.0 * random.normal()).clamp(0.0, 255.0) as u8]);
    GrayImage::from_fn(16, 16, pixel).save(path).expect("an image");
}

#[test]
fn a_folder_of_images_is_watched_by_what_eyes_see() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (train, live) = (dir.join("train"), dir.join("live"));
    fs::create_dir_all(&train).expect("a folder");
    fs::create_dir_all(&live).expect("a folder");
    let mut random = Random::new(1);
    (0..200).for_each(|at| picture(&train.join(format!("{at:04}.png")), &mut random, 120.0));
    fs::write(train.join("broken.png"), b"no image").expect("a file");
    let mut command = Command::new(crate::fleet::binary("driftline"));
    let bundle = dir.join("camera.bundle");
    command
        .args(["baselines", "create", "--window", "1s", "--window-samples", "20", "--name", "camera", "--data"])
        .arg(&train);
    command.arg("--model").arg(root().join("tests/models/corpus/int8-cnn-qdq-channel.onnx")).arg("--out").arg(&bundle);
    let (code, _, said) = run(&mut command);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 of 201 images were skipped; the first is ") && said.contains("broken.png"), "{said}");
    assert_eq!(names(&bundle)[..3], ["brightness", "contrast", "sharpness"]);

    let config = agent_config(dir, "camera-1", 1, Some(&bundle), &format!("kind = \"images\"\npath = {live:?}"));
    for at in 0..30 {
        picture(&live.join(format!("{at:04}.png")), &mut random, 120.0);
    }
    // What a camera that fails may leave there: nothing, half a file, something else, a picture that claims to be huge.
    fs::write(live.join("empty.png"), b"").expect("a file");
    fs::write(live.join("notes.txt"), b"not for the model").expect("a file");
    let whole = fs::read(live.join("0000.png")).expect("an image");
    fs::write(live.join("half.jpg"), &whole[..whole.len() / 2]).expect("a file");
    let mut bomb = whole;
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    fs::write(live.join("bomb.png"), bomb).expect("a file");
    let mut process = agent(dir, "camera-1", &config);
    let counted = |wanted: [u64; 3]| {
        let samples = &status(&config)?["samples"];
        (["taken", "in_windows", "refused"].map(|key| samples[key].as_u64()) == wanted.map(Some)).then_some(())
    };
    wait_for("the first images", || counted([33, 30, 3]));
    picture(&live.join("new.png"), &mut random, 120.0);
    wait_for("a new image", || counted([34, 31, 3]));
    process.terminate();
    assert!(process.wait().success());
    assert!(process.said().contains("bomb.png is not used"), "{}", process.said());

    // An application sends files, or what is none.
    let config = agent_config(dir, "camera-3", 1, Some(&bundle), "kind = \"http\"\nlisten = \"127.0.0.1:0\"");
    let mut process = agent(dir, "camera-3", &config);
    let infer = format!("{}/models/camera/infer", process.after("applications can ask the model at "));
    let ask = |files: &[&[u8]]| {
        let tail: Vec<u8> = files.iter().flat_map(|f| [&(f.len() as u32).to_le_bytes()[..], f].concat()).collect();
        let head = serde_json::json!({ "inputs": [{ "name": "x", "shape": [files.len()], "datatype": "BYTES",
            "parameters": { "binary_data_size": tail.len() } }] });
        let head = head.to_string();
        let request = ureq::post(&infer).config().http_status_as_error(false).build();
        let request = request.header("Inference-Header-Content-Length", head.len().to_string());
        let mut answer = request.send([head.as_bytes(), &tail].concat()).expect("an answer");
        let body: serde_json::Value = answer.body_mut().read_json().expect("JSON");
        (answer.status().as_u16(), body)
    };
    let (first, second) =
        (fs::read(live.join("0000.png")).expect("an image"), fs::read(live.join("0001.png")).expect("an image"));
    let (status, answer) = ask(&[&first, &second]);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["outputs"][0]["shape"], serde_json::json!([2, 3]), "{answer}");
    let (status, answer) = ask(&[&first, b"no image"]);
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().is_some_and(|e| e.starts_with("image 2 of the request is not used")), "{answer}");

    let twice = serde_json::json!({ "name": "x", "shape": [1], "datatype": "BYTES", "parameters": { "binary_data_size": first.len() + 4 } });
    let head = serde_json::json!({ "inputs": [twice, twice] }).to_string();
    let file = [&(first.len() as u32).to_le_bytes()[..], &first].concat();
    let request = ureq::post(&infer).config().http_status_as_error(false).build();
    let request = request.header("Inference-Header-Content-Length", head.len().to_string());
    let mut answer = request.send([head.as_bytes(), &file, &file].concat()).expect("an answer");
    assert_eq!(answer.status().as_u16(), 400);
    let said = answer.body_mut().read_to_string().expect("text");
    assert!(said.contains("it names 2 inputs, and the model takes 1"), "{said}");

    // A model of rows takes none.
    let table = dir.join("rows.csv");
    vibration(&table, 4_000, 1.0);
    let text = fs::read_to_string(&table).expect("the table");
    let wide: String = text
        .lines()
        .enumerate()
        .map(|(at, v)| {
            if at == 0 {
                (0..20).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",") + "\n"
            } else {
                vec![v; 20].join(",") + "\n"
            }
        })
        .collect();
    fs::write(&table, wide).expect("a table");
    let rows = baseline(dir, "corpus/nn-mlp-batch-N.onnx", &table, &["--window", "1s"]);
    let config = agent_config(dir, "camera-2", 1, Some(&rows), &format!("kind = \"images\"\npath = {live:?}"));
    let mut process = agent(dir, "camera-2", &config);
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.said().contains("is a folder of images, and the model takes none"), "{}", process.said());
}

/// A slope from dark to bright, to the right or to the left, under some noise: brightness, contrast and sharpness are the same.
fn slope(path: &Path, random: &mut Random, to_the_right: bool) {
    let pixel = |x: u32, _| {
        let along = f64::from(if to_the_right { x } else { 15 - x }) - 7.5;
        Luma([(127.5 + 8.0 * along + 8.0 * random.normal()).clamp(0.0, 255.0) as u8])
    };
    GrayImage::from_fn(16, 16, pixel).save(path).expect("an image");
}

#[test]
fn the_models_own_embedding_sees_what_brightness_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let mut random = Random::new(5);
    let mut folder = |name: &str, many: usize, to_the_right: bool| {
        let folder = dir.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        (0..many).for_each(|at| slope(&folder.join(format!("{at:04}.png")), &mut random, to_the_right));
        folder
    };
    let (train, same, turned) = (folder("train", 600, true), folder("same", 300, true), folder("turned", 300, false));
    let model = root().join("tests/models/corpus/nn-camera.onnx");
    let create = |more: &[&str], data: &Path, out: &Path| {
        let mut command = Command::new(crate::fleet::binary("driftline"));
        command.args(["baselines", "create", "--window", "1s", "--window-samples", "20", "--name", "camera"]);
        run(command.args(more).arg("--data").arg(data).arg("--model").arg(&model).arg("--out").arg(out))
    };
    let bundle = dir.join("camera.bundle");
    let (code, _, said) = create(&[], &train, &bundle);
    assert_eq!(code, 0, "{said}");
    let watched = names(&bundle);
    let of_embedding =
        ["embedding.length", "embedding.1", "embedding.2", "embedding.3", "embedding.4", "embedding.rest"];
    assert_eq!(watched[..3], ["brightness", "contrast", "sharpness"]);
    assert_eq!(watched[3..9], of_embedding);

    // Left out, taken from inside the model, or named wrongly.
    assert_eq!(create(&["--embedding", "none"], &train, &dir.join("without.bundle")).0, 0);
    assert!(!names(&dir.join("without.bundle")).iter().any(|name| name.starts_with("embedding")));
    let (code, _, said) = create(&["--embedding", "no_such"], &train, &dir.join("wrong.bundle"));
    assert!(code == 1 && said.contains("the model has no tensor no_such"), "{said}");

    let collector = Collector::start(dir, None, "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let started = |device: &str, folder: &Path| {
        let source = format!("kind = \"images\"\npath = {folder:?}\nrate_hz = 25.0");
        let config = agent_config(dir, device, collector.mqtt_port, Some(&bundle), &source);
        (agent(dir, device, &config), config)
    };
    let (mut process, config) = started("camera-1", &same);
    wait_for("300 images", || (status(&config)?["samples"]["taken"].as_u64() == Some(300)).then_some(()));
    process.terminate();
    assert!(process.wait().success());
    assert_eq!(collector.get("incidents")["items"].as_array().map(Vec::len), Some(0), "nothing has changed");

    let (mut process, _) = started("camera-2", &turned);
    let title = wait_for("an incident", || collector.get("incidents")["items"][0]["title"].as_str().map(str::to_owned));
    assert!(title.starts_with("embedding."), "{title}");
    process.terminate();
    assert!(process.wait().success());
}
