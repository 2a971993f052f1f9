//! What mutations begin with: the models of `testdata`, made small, in the form that the target reads.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use optc::{Compiler, MachineProfile, Options, Tensor, TuningCache};
use optc_ir::print;
use optc_tests::data::testdata;

use crate::programs;
use crate::targets::{FuzzTarget, TUNED, tuned_compiler};

/// Larger files are left out: mutations of weights find nothing, and copying them costs time.
const LARGEST: usize = 24 << 10;
/// One in this many node tests is a seed.
const STEP: usize = 3;

/// The seeds of a target, in a fixed order.
pub fn seeds(target: FuzzTarget, folder: &Path) -> Result<Vec<Vec<u8>>> {
    let models = if target == FuzzTarget::Kernels { vec![] } else { models(folder)? };
    Ok(match target {
        // Layers are drawn from bytes that need not be like any others.
        FuzzTarget::Onnx | FuzzTarget::Run | FuzzTarget::Kernels => models,
        FuzzTarget::Text => models.iter().filter_map(|m| text(m)).collect(),
        FuzzTarget::Tuning => vec![tuning()?, serde_json::to_vec(&MachineProfile::measure()?)?],
        FuzzTarget::Program => models.iter().step_by(4).filter_map(|m| program(m)).chain(batch()).collect(),
        FuzzTarget::Artifact => models.iter().step_by(2).filter_map(|m| artifact(m, folder)).collect(),
    })
}

/// Small node tests.
pub fn models(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let root = optc_tests::data::unpack("onnx-node-tests.tar.xz", folder)?;
    let entries = std::fs::read_dir(&root)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|e| e.path().join("model.onnx")).collect();
    paths.sort();
    let models = paths.iter().step_by(STEP).map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    Ok(models.into_iter().filter(|m| m.len() <= LARGEST).collect())
}

fn text(model: &[u8]) -> Option<Vec<u8>> {
    let printed = print(&optc_onnx::import_bytes(model).ok()?);
    printed.constants.is_empty().then(|| printed.text.into_bytes())
}

fn program(model: &[u8]) -> Option<Vec<u8>> {
    let options = Options { isa: Some("portable".to_owned()), ..Options::default() };
    programs::seed(&Compiler::new(options).program(optc_onnx::import_bytes(model).ok()?).ok()?)
}

/// A program for a batch.
fn batch() -> Option<Vec<u8>> {
    let text = "func @f(%x: tensor<Nx6xf32>, %w: tensor<6x3xf32>) {
        %0 = math.matmul %x, %w : tensor<Nx3xf32>
        %1 = nn.softmax %0 : tensor<Nx3xf32>
        return %1 as \"y\"
    }";
    let options = Options { isa: Some("portable".to_owned()), ..Options::default() };
    programs::seed(&Compiler::new(options).program(optc_ir::parse(text).ok()?).ok()?)
}

/// What is found in a moment for a small model.
fn tuning() -> Result<Vec<u8>> {
    let model = tuned_compiler(TuningCache::default()).compile_file(&testdata(TUNED))?;
    let picture = Tensor::from_slice(&[1, 1, 28, 28], &[0.5f32; 28 * 28])?.into();
    Ok(serde_json::to_vec(&model.autotune(&[picture], Duration::from_secs(2))?.winners)?)
}

/// The artifact of a model, with machine code where its shapes are known.
pub fn artifact(model: &[u8], folder: &Path) -> Option<Vec<u8>> {
    let compiler = Compiler::new(Options { keep_graph: true, ..Options::default() });
    let file = tempfile::NamedTempFile::new_in(folder).ok()?;
    let natives: Vec<_> = compiler.native(optc_onnx::import_bytes(model).ok()?).into_iter().collect();
    compiler.compile_bytes(model).ok()?.save_with(file.path(), &natives).ok()?;
    std::fs::read(file.path()).ok()
}
