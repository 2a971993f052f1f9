//! Damages models at random and runs what still imports: `cargo run --release -p optc-onnx --example mutate -- SECONDS
//! SEED MODEL.onnx...`. Any panic is a bug; the model that caused one is written to `mutate-crash.onnx`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use optc_ir::{Dim, Graph, Type, Val};
use optc_onnx::proto::tensor_shape_proto::dimension::Value as DimValue;
use optc_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, type_proto};
use optc_tensor::{DType, Tensor, element_count};
use prost::Message;

/// Operands with more elements than this are not made.
const MAX_ELEMENTS: usize = 1 << 16;

/// A small generator of random numbers (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            break;
        }
        // Most of a large model is weights; its structure lies at the beginning and the end.
        let window = if random.below(4) > 0 { bytes.len().min(4096) } else { bytes.len() };
        let at = random.below(window);
        let at = if random.below(2) == 0 { at } else { bytes.len() - 1 - at };
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][random.below(6)],
            3 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Numbers on which arithmetic tends to fail.
const EDGES: [i64; 14] = [0, 1, -1, 2, -2, 3, 5, 7, i64::MAX, i64::MIN, i32::MAX as i64, 1 << 32, -(1 << 40), 1 << 20];

fn edge(random: &mut Random) -> i64 {
    EDGES[random.below(EDGES.len())]
}

/// The model with some numbers, names and extents exchanged: most of these decode, and reach inference.
fn tweaked(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(bytes).ok()?;
    for _ in 0..1 + random.below(3) {
        match random.below(8) {
            0 => model.opset_import.iter_mut().for_each(|o| o.version = Some(7 + random.below(22) as i64)),
            _ => tweak_graph(model.graph.as_mut()?, random),
        }
    }
    Some(model.encode_to_vec())
}

fn tweak_graph(graph: &mut GraphProto, random: &mut Random) {
    let mut names: Vec<String> = graph.input.iter().map(|i| i.name().to_owned()).collect();
    names.extend(graph.node.iter().flat_map(|n| n.output.clone()));
    names.extend(graph.initializer.iter().map(|t| t.name().to_owned()));
    names.push(String::new());
    let infos = graph.input.len();
    match random.below(4) {
        0 if infos > 0 => {
            if let Some(ty) = &mut graph.input[random.below(infos)].r#type {
                tweak_type(ty, random);
            }
        }
        1 if !graph.initializer.is_empty() => {
            let at = random.below(graph.initializer.len());
            let t = &mut graph.initializer[at];
            t.int64_data.iter_mut().for_each(|v| *v = edge(random));
            if let Some(raw) = &t.raw_data {
                let mut raw = raw.to_vec();
                if t.data_type == Some(7) {
                    raw.chunks_exact_mut(8).for_each(|v| v.copy_from_slice(&edge(random).to_le_bytes()));
                } else if !raw.is_empty() {
                    let at = random.below(raw.len());
                    raw[at] = random.below(256) as u8;
                }
                t.raw_data = Some(raw.into());
            }
        }
        _ if !graph.node.is_empty() => {
            let at = random.below(graph.node.len());
            tweak_node(&mut graph.node[at], &names, random);
        }
        _ => {}
    }
}

fn tweak_type(ty: &mut TypeProto, random: &mut Random) {
    let Some(type_proto::Value::TensorType(t)) = &mut ty.value else { return };
    let Some(shape) = &mut t.shape else { return };
    match random.below(5) {
        0 => t.elem_type = Some(1 + random.below(16) as i32),
        1 => drop(shape.dim.pop()),
        2 => shape.dim.extend(shape.dim.last().cloned()),
        _ if !shape.dim.is_empty() => {
            let at = random.below(shape.dim.len());
            let small = [0, 1, 2, 3, 4, 7, 16][random.below(7)];
            shape.dim[at].value = (random.below(5) > 0).then_some(DimValue::DimValue(small));
        }
        _ => {}
    }
}

fn tweak_node(node: &mut NodeProto, names: &[String], random: &mut Random) {
    let (inputs, attributes) = (node.input.len(), node.attribute.len());
    match random.below(6) {
        0 if inputs > 0 => node.input[random.below(inputs)] = names[random.below(names.len())].clone(),
        1 => drop(node.input.pop()),
        2 => node.input.push(names[random.below(names.len())].clone()),
        3 if attributes > 0 => drop(node.attribute.remove(random.below(attributes))),
        _ if attributes > 0 => tweak_attribute(&mut node.attribute[random.below(attributes)], random),
        _ => {}
    }
}

fn tweak_attribute(a: &mut AttributeProto, random: &mut Random) {
    if let Some(i) = &mut a.i {
        *i = edge(random);
    }
    if let Some(f) = &mut a.f {
        *f = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30, 1e30][random.below(6)];
    }
    match random.below(4) {
        0 => drop(a.ints.pop()),
        1 => a.ints.push(edge(random)),
        _ if !a.ints.is_empty() => {
            let at = random.below(a.ints.len());
            a.ints[at] = edge(random);
        }
        _ => {}
    }
    if let Some(g) = &mut a.g {
        tweak_graph(g, random);
    }
}

fn value(ty: &Type, random: &mut Random) -> Option<Val> {
    match ty {
        Type::Tensor(t) => {
            let dims = t.shape.clone().unwrap_or_default();
            let shape: Vec<usize> = dims.iter().map(|d| Dim::known(d).unwrap_or(1 + random.below(3))).collect();
            let n = element_count(&shape).filter(|&n| n <= MAX_ELEMENTS)?;
            if t.dtype == DType::Str {
                return Tensor::from_strings(&shape, vec!["a b".to_owned(); n]).ok().map(Val::from);
            }
            let values: Vec<f64> =
                (0..n).map(|_| random.below(9) as f64 - if t.dtype.is_signed() { 3.0 } else { 0.0 }).collect();
            Tensor::from_f64(t.dtype, &shape, &values).ok().map(Val::from)
        }
        Type::Sequence(of) => Some(Val::Seq((**of).clone(), vec![value(of, random)?])),
        Type::Optional(of) => Some(Val::Opt((**of).clone(), value(of, random).map(Box::new))),
    }
}

/// The parameters and results of a graph that would make the interpreter take too much time or memory.
fn is_large(graph: &Graph) -> bool {
    graph.ids().any(|id| {
        let node = graph.node(id);
        let large = |ty: &Type| {
            let shape = ty.as_tensor().and_then(|t| t.static_shape());
            shape.is_some_and(|s| element_count(&s).is_none_or(|n| n > 1 << 22))
        };
        node.results.iter().any(|r| large(&r.ty)) || node.regions.iter().any(is_large)
    })
}

fn attempt(bytes: &[u8], random: &mut Random) -> bool {
    let Ok(mut graph) = optc_onnx::import_bytes(bytes) else { return false };
    if optc_ir::infer_types(&mut graph).is_err() {
        return false;
    }
    let _ = optc_ir::verify(&graph);
    let _ = optc_onnx::export_model(&graph); // the result does not matter here, only that there is one
    let inputs: Option<Vec<Val>> = graph.inputs().map(|v| value(graph.ty(v), random)).collect();
    match inputs {
        Some(inputs) if !is_large(&graph) => optc_ir::run(&graph, &inputs).is_ok(),
        _ => false,
    }
}

/// Ends the process when one model takes too long, and leaves the model behind.
#[expect(clippy::print_stdout, reason = "the report is what this example is for")]
fn watch(current: &Arc<Mutex<(Instant, Vec<u8>)>>) {
    let current = Arc::clone(current);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let Ok(current) = current.lock() else { return };
            if current.0.elapsed() > Duration::from_secs(20) {
                let written = std::fs::write("mutate-slow.onnx", &current.1).is_ok();
                println!("SLOW: more than 20 s; the model is in mutate-slow.onnx: {written}");
                std::process::exit(1);
            }
        }
    });
}

#[expect(clippy::print_stdout, reason = "the report is what this example is for")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, seed, models @ ..] = &args[..] else {
        println!("usage: mutate SECONDS SEED MODEL.onnx...");
        return;
    };
    let limit = Duration::from_secs(seconds.parse().unwrap_or(10));
    let mut random = Random(seed.parse::<u64>().unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let bytes: Vec<Vec<u8>> = models.iter().filter_map(|m| std::fs::read(Path::new(m)).ok()).collect();
    let current = Arc::new(Mutex::new((Instant::now(), vec![])));
    watch(&current);
    let (start, mut tried, mut ran, mut panics) = (Instant::now(), 0, 0, 0);
    while start.elapsed() < limit && !bytes.is_empty() {
        let which = random.below(bytes.len());
        let model = match random.below(8) {
            0 => damaged(&bytes[which], &mut random),
            _ => tweaked(&bytes[which], &mut random).unwrap_or_default(),
        };
        let begin = Instant::now();
        if let Ok(mut current) = current.lock() {
            *current = (begin, model.clone());
        }
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| attempt(&model, &mut random))) {
            Ok(done) => ran += usize::from(done),
            Err(_) => {
                panics += 1;
                println!("PANIC in a mutation of {}", models[which]);
                if std::fs::write(format!("mutate-crash{panics}.onnx"), &model).is_err() {
                    println!("the model could not be written");
                }
            }
        }
        if begin.elapsed() > Duration::from_secs(5) {
            println!("SLOW: {:.1} s for a mutation of {}", begin.elapsed().as_secs_f64(), models[which]);
        }
    }
    println!("{tried} models, {ran} ran, {panics} panics");
}
