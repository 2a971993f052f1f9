//! Models that draw random numbers: a seed decides them, whatever computes the model.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Options, Val};
use optc_ir::Graph;
use optc_tensor::{Draws, Tensor};
use optc_testing::isas;

/// Noise for a voice, as vocoders have it, and numbers that a loop draws on each trip.
const MODEL: &str = r#"
func @voice(%x: tensor<Nx8xf32>, %trips: tensor<i64>) {
  %shape = tensor.shape %x : tensor<2xi64>
  %noise = random.normal %shape {key = 11, scale = 0.5} : tensor<?x?xf32>
  %same = random.normal %shape {key = 11, scale = 0.5} : tensor<?x?xf32>
  %voice = math.add %x, %noise : tensor<?x8xf32>
  %both = math.sub %voice, %same : tensor<?x8xf32>
  %all = cf.loop %trips, _ {carried = 0} : tensor<?x3xf32> region
  func @body(%i: tensor<i64>, %c: tensor<bool>) {
    %s = tensor.const {value = dense<[3]> : tensor<1xi64>} : tensor<1xi64>
    %u = random.uniform %s {key = 13} : tensor<3xf32>
    return %c as "c", %u as "u"
  }
  %place = random.multinomial %voice {count = 5, dtype = i64, key = 14} : tensor<?x5xi64>
  return %both as "y", %all as "drawn", %place as "place"
}
"#;

fn inputs() -> Vec<Val> {
    let x = Tensor::from_slice(&[2, 8], &[0f32; 16]).unwrap();
    vec![x.into(), Tensor::from_slice(&[], &[4i64]).unwrap().into()]
}

fn numbers(results: &[Val]) -> [Vec<f64>; 3] {
    [0, 1, 2].map(|i| results[i].as_tensor().unwrap().to_f64_vec())
}

fn interpreted(graph: &Graph, seed: u64) -> [Vec<f64>; 3] {
    let _run = Draws::enter(seed);
    numbers(&optc_ir::run(graph, &inputs()).unwrap())
}

#[test]
fn the_seed_of_a_run_decides_on_every_isa_and_pipeline() {
    let graph = optc_ir::parse(MODEL).unwrap();
    let expected = [0, 5].map(|seed| interpreted(&graph, seed));
    let [noise, drawn, places] = &expected[0];
    assert!(noise.iter().all(|&v| v != 0.0), "two equal ops draw different numbers");
    assert_eq!((drawn.len(), places.len()), (12, 10));
    assert!(places.iter().all(|place| (0.0..8.0).contains(place)));
    assert!((0..3).all(|i| drawn[i] != drawn[i + 3]), "each trip draws others: {drawn:?}");
    assert_ne!(expected[0], expected[1]);
    for isa in isas() {
        for passes in ["schedule", "O1", "O2"] {
            let options = Options { isa: Some(isa.name.to_owned()), passes: passes.to_owned(), ..Options::default() };
            let mut session = Compiler::new(options).compile_graph(graph.clone()).unwrap().session();
            for (seed, expected) in [(0, &expected[0]), (0, &expected[0]), (5, &expected[1])] {
                session.set_seed(seed);
                assert_eq!(&numbers(&session.run_values(&inputs()).unwrap()), expected, "{} {passes}", isa.name);
            }
        }
    }
}
