//! The six networks of `testdata`: outputs as ONNX Runtime gives them, and the same top-1 on the test pictures.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Model, Options, Tensor, Val};
use optc_kernel::target::Isa;
use optc_tensor::Difference;
use optc_testing::isas;
use optc_tests::data;

/// Pictures that are run at once.
const BATCH: usize = 100;
/// Pixels of a picture.
const PIXELS: usize = 28 * 28;
const CLASSES: usize = 10;

fn model(name: &str, isa: &Isa) -> Model {
    let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
    Compiler::new(options).compile_file(&data::testdata(&format!("{name}.onnx"))).unwrap()
}

fn logits(model: &Model, input: Tensor) -> Tensor {
    let outputs = model.session().run(&[("input", input)]).unwrap();
    match &outputs[..] {
        [(name, Val::Tensor(t))] if name == "logits" => t.clone(),
        other => panic!("found {other:?}, expected `logits`"),
    }
}

fn outputs_match_the_reference(name: &str) {
    let expected = data::array(&format!("{name}_expected.npz"), "logits").unwrap();
    let pictures = data::array("fashion_100.npz", "input").unwrap();
    let n = expected.shape()[0];
    let some = &pictures.as_slice::<f32>().unwrap()[..n * PIXELS];
    for isa in isas() {
        let found = logits(&model(name, isa), Tensor::from_slice(&[n, 1, 28, 28], some).unwrap());
        let d = Difference::between(&found, &expected, 0.0, 0.0).expect("dtype and shape of the reference");
        assert!(d.cosine >= 0.9999 && d.max_abs <= 1e-3 * d.range, "{name} on {}: {d:?}", isa.name);
    }
}

/// How many of the test pictures get their class, as `testdata/metrics.json` has it.
fn documented_hits(name: &str, pictures: usize) -> usize {
    let text = std::fs::read_to_string(data::testdata("metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&text).unwrap();
    let top1 = metrics[name]["top1_test"].as_f64().expect("every network has a top-1");
    (top1 * pictures as f64).round() as usize
}

/// Pictures prepared as the networks were trained with them.
fn prepared(pixels: &[u8]) -> Tensor {
    let values: Vec<f32> = pixels.iter().map(|&p| (f32::from(p) / 255.0 - 0.2860) / 0.3530).collect();
    Tensor::from_slice(&[pixels.len() / PIXELS, 1, 28, 28], &values).unwrap()
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn top_1_is_as_documented(name: &str) {
    let images = data::array("test_images.npz", "images").unwrap();
    let labels = data::array("test_images.npz", "labels").unwrap();
    let (images, labels) = (images.as_slice::<u8>().unwrap(), labels.as_slice::<u8>().unwrap());
    for isa in isas() {
        let model = model(name, isa);
        let mut hits = 0;
        for (pixels, labels) in images.chunks(BATCH * PIXELS).zip(labels.chunks(BATCH)) {
            let found = logits(&model, prepared(pixels));
            let rows = found.as_slice::<f32>().unwrap().chunks(CLASSES);
            hits += rows.zip(labels).filter(|(row, label)| largest(row) == usize::from(**label)).count();
        }
        assert_eq!(hits, documented_hits(name, labels.len()), "{name} on {}", isa.name);
    }
}

macro_rules! networks {
    ($($name:ident)*) => { $(
        mod $name {
            #[test]
            fn outputs_match_the_reference() {
                super::outputs_match_the_reference(stringify!($name));
            }

            #[test]
            fn top_1_is_as_documented() {
                super::top_1_is_as_documented(stringify!($name));
            }
        }
    )* };
}

networks! { mlp lenet mobilenetv2 resnet8 vit lstm }

#[test]
fn every_network_of_testdata_is_tested() {
    let listed = ["mlp", "lenet", "mobilenetv2", "resnet8", "vit", "lstm"];
    let entries = std::fs::read_dir(data::testdata("")).unwrap().map(|e| e.unwrap().path());
    let models = entries.filter(|p| p.extension().is_some_and(|e| e == "onnx"));
    for model in models {
        let name = model.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(listed.contains(&name.as_str()), "{name}");
    }
}
