//! Names what pictures show: `cargo run --release -p optc --example classify`, in the root of the repository.

use optc::{Compiler, Options, Val, npy};

const CLASSES: [&str; 10] =
    ["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Compiler::new(Options::default()).compile_file("testdata/lenet.onnx".as_ref())?;
    let arrays = npy::read_npz("testdata/fashion_100.npz".as_ref())?;
    let (_, pictures) = arrays.into_iter().find(|(name, _)| name == "input").ok_or("there are no pictures")?;
    let outputs = model.session().run(&[("input", pictures)])?;
    let (_, Val::Tensor(logits)) = &outputs[0] else { return Err("the output is not a tensor".into()) };
    for (i, row) in logits.as_slice::<f32>()?.chunks(CLASSES.len()).enumerate() {
        let class = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).ok_or("there are no classes")?;
        println!("picture {i}: {}", CLASSES[class]);
    }
    Ok(())
}
