//! Prints the machine code of the tiles whose speed matters most, of the row named (`avx512-bf16` without one): a line
//! with the tile's name, one with its bytes, as `llvm-mc --disassemble` reads them. Its output, cut to an inner loop,
//! is what `llvm-mca -mcpu=...` takes.

use std::error::Error;

use optc_emit::tile_code;
use optc_kernel::nest::Kernel;
use optc_kernel::target::{Caches, Isa};
use optc_kernels::contract::{Contract, ContractSchedule, ConvNest, contract};
use optc_kernels::int8::{self, Int8Form, NarrowProduct};
use optc_kernels::window::{Axis, WindowNest, WindowReduce, window};
use optc_kernels::winograd::{F4, Winograd};

const SIZE: usize = 512;

fn axis(size: usize) -> Axis {
    Axis { size, out: size, kernel: 3, stride: 1, dilation: 1, pads: [1, 1] }
}

fn kernels(isa: &Isa) -> Result<Vec<(&'static str, Kernel)>, Box<dyn Error>> {
    let caches = Caches::default();
    let dense =
        |c: &Contract| Ok::<_, Box<dyn Error>>(contract(c, isa, ContractSchedule::choose(c, isa, &caches))?.kernel);
    let narrow = |form: Int8Form| {
        let p = NarrowProduct::points(SIZE, SIZE, SIZE, form);
        int8::product(&p, isa, int8::Int8Schedule::choose(&p, isa, &caches))
    };
    let axes = [Axis::NONE, axis(56), axis(56)];
    let conv = ConvNest::channels_last(1, 64, 64, 1, axes);
    let filtered = Winograd::of(&conv, &F4).ok_or("the convolution cannot be filtered")?;
    Ok(vec![
        ("f32", dense(&Contract::matmul(1, SIZE, SIZE, SIZE))?),
        ("int8", narrow(Int8Form::choose(isa, SIZE, true))),
        ("bf16", narrow(Int8Form::bf16(isa, SIZE, SIZE, false))),
        ("depthwise", window(&WindowNest::channels_last(1, 96, axes, WindowReduce::Dot), isa).kernel),
        ("winograd input", filtered.input(isa).kernel),
        ("winograd output", filtered.output(isa)),
    ])
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "avx512-bf16".to_owned());
    let isa = Isa::by_name(&name).ok_or_else(|| format!("no row is called `{name}`"))?;
    for (what, kernel) in kernels(isa)? {
        for tile in &kernel.tiles {
            println!("{what}: {}", tile.name);
            let bytes = tile_code(tile)?;
            println!("{}", bytes.iter().map(|b| format!("0x{b:02x} ")).collect::<String>());
        }
    }
    Ok(())
}
