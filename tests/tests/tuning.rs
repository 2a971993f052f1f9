//! Tuned models give what models that are not tuned give, and what was found is found again: in a cache, in an
//! artifact.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::time::Duration;

use optc::{Compiler, DType, Model, Options, Tensor, TuningCache, Type, Val};
use optc_tensor::{Difference, Random};
use optc_tests::data::testdata;

/// Tuning ends when all options are tried, however busy the machine is.
const UNTIL_DONE: Duration = Duration::MAX;

fn picture() -> Vec<Val> {
    let mut random = Random::new(7);
    let pixels: Vec<f64> = (0..28 * 28).map(|_| random.real(0.0, 1.0)).collect();
    vec![Tensor::from_f64(DType::F32, &[1, 1, 28, 28], &pixels).unwrap().into()]
}

fn compile(name: &str, tuning: TuningCache) -> Model {
    let options = Options { keep_graph: true, tuning, ..Options::default() };
    Compiler::new(options).compile_file(&testdata(name)).unwrap()
}

/// What each choice point of the model takes for the picture, by its key: branches of a graph have no order.
fn taken(model: &Model) -> Vec<(String, String)> {
    let types: Vec<Type> = picture().iter().map(Val::ty).collect();
    let plan = model.plan_for(&types).unwrap();
    let mut taken: Vec<_> = plan.points.iter().map(|p| (p.key.clone(), p.options[p.taken].clone())).collect();
    taken.sort();
    taken
}

fn output(model: &Model) -> Tensor {
    model.session().run_values(&picture()).unwrap()[0].as_tensor().unwrap().clone()
}

fn close(found: &Tensor, expected: &Tensor) {
    let range = Difference::between(found, expected, 0.0, 0.0).unwrap().range;
    assert!(Difference::between(found, expected, 1e-4, 1e-4 * range).unwrap().within_tolerance());
}

#[test]
fn winners_are_found_again_and_results_stay() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lenet.onnx", "resnet8.onnx"] {
        let plain = compile(name, TuningCache::default());
        let tuned = plain.autotune(&picture(), UNTIL_DONE).unwrap();
        assert!(tuned.points > 2 && tuned.trials > 0 && tuned.changed <= tuned.points, "{name}: {tuned:?}");
        close(&output(&tuned.model), &output(&plain));
        // A file keeps the winners.
        let file = folder.path().join("tuning.json");
        tuned.winners.write(&file).unwrap();
        let again = compile(name, TuningCache::read(&file).unwrap());
        assert_eq!(taken(&again), taken(&tuned.model), "{name}");
        assert_eq!(output(&again), output(&tuned.model), "{name}");
        // An artifact brings them along.
        let artifact = folder.path().join("tuned.optc");
        again.save(&artifact).unwrap();
        let loaded = Compiler::new(Options::default()).compile_file(&artifact).unwrap();
        assert_eq!(taken(&loaded), taken(&tuned.model), "{name}");
        assert_eq!(output(&loaded), output(&tuned.model), "{name}");
    }
}

/// The first plan differs from the second in every choice that has options.
#[test]
fn what_is_known_is_taken_and_not_measured_again() {
    let plain = compile("resnet8.onnx", TuningCache::default());
    let types: Vec<Type> = picture().iter().map(Val::ty).collect();
    let points = plain.plan_for(&types).unwrap().points.clone();
    let tuned = plain.autotune(&picture(), Duration::ZERO).unwrap();
    assert_eq!((tuned.trials, tuned.changed, tuned.complete), (0, 0, false));
    assert!(tuned.winners.is_empty());
    // One that was measured in full knows every choice, and one that knows them all measures nothing.
    let tuned = plain.autotune(&picture(), UNTIL_DONE).unwrap();
    assert!(tuned.complete && tuned.winners.len() >= tuned.points, "{tuned:?}");
    let again = compile("resnet8.onnx", tuned.winners.clone());
    let more = again.autotune(&picture(), UNTIL_DONE).unwrap();
    assert_eq!((more.trials, more.complete), (0, true));
    assert_eq!(taken(&more.model), taken(&tuned.model));
    // Nothing is taken from another machine, and nothing that is not an option.
    let text = serde_json::to_string(&tuned.winners).unwrap();
    let elsewhere = compile("resnet8.onnx", serde_json::from_str(&text.replace(" threads\"", " cores\"")).unwrap());
    let broken = compile("resnet8.onnx", serde_json::from_str(&text.replace("blocks", "pieces")).unwrap());
    for model in [elsewhere, broken] {
        let plan = model.plan_for(&types).unwrap();
        let direct = |key: &str| key.starts_with("3x3");
        for point in plan.points.iter().filter(|p| !direct(&p.key)) {
            let default = points.iter().find(|p| p.key == point.key).map_or(0, |p| p.taken);
            assert_eq!((point.taken, default), (0, 0), "{point:?}");
        }
    }
}

#[test]
fn a_model_without_its_graph_is_not_tuned() {
    let model = Compiler::new(Options { shapes: vec![("input".into(), vec![1, 1, 28, 28])], ..Options::default() });
    let model = model.compile_file(&testdata("lenet.onnx")).unwrap();
    let failed = model.autotune(&picture(), UNTIL_DONE).unwrap_err();
    assert!(matches!(failed, optc::Error::NoGraph), "{failed}");
}
