//! Runs the machine code of an artifact on zeros, with no compiler linked, and says how long that took:
//!
//! ```sh
//! optc compile model.onnx --native -o model.optc
//! cargo run --release -p optc-native --example run_native -- model.optc
//! ```

use std::sync::Arc;
use std::time::Instant;

use optc_native::{Artifact, no_host_ops};
use optc_runtime::{Arena, Executor, ThreadPool};
use optc_tensor::{FileAccess, Tensor};
use optc_types::Val;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let path = std::env::args().nth(1).ok_or("usage: run_native MODEL.optc")?;
    let artifact = Artifact::open(path.as_ref(), FileAccess::Map)?;
    let native = artifact.native_here(None).ok_or("the artifact has no machine code for this machine")?;
    // SAFETY: whoever starts this example trusts the file.
    let (plan, _) = unsafe { artifact.plan(&native, &no_host_ops) }?;
    let shape = |ty: &optc_types::Type| ty.as_tensor().and_then(|t| Some((t.dtype, t.static_shape()?)));
    let zeros = plan.flow.inputs.iter().map(|input| {
        let (dtype, shape) = shape(&input.ty).ok_or("an input is no tensor of static shape")?;
        Ok(Val::from(Tensor::zeros(dtype, &shape)?))
    });
    let zeros = zeros.collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let (mut executor, mut arena, pool) = (Executor::new(Arc::new(plan)), Arena::default(), ThreadPool::new(1)?);
    let outputs = executor.run(&zeros, &mut arena, &pool, None)?;
    let first = start.elapsed();
    let steady = (0..20).map(|_| {
        let start = Instant::now();
        executor.run(&zeros, &mut arena, &pool, None).map(|_| start.elapsed())
    });
    let steady = steady.collect::<Result<Vec<_>, _>>()?.into_iter().min().unwrap_or_default();
    println!("{} outputs; the first after {first:.2?}, later ones take {steady:.2?}", outputs.len());
    Ok(())
}
