//! The structs of the header lie as those of this crate do: the C compiler is asked for each member.

use std::mem::offset_of;
use std::process::Command;

use crate::{OptcOperand, OptcOptions, OptcPort, OptcShape, OptcTensor};

/// An assertion in C for the size of a struct and for the place of each member.
macro_rules! laid_out {
    ($($Struct:ident { $($member:ident),* })*) => {
        [$(
            format!("_Static_assert(sizeof({0}) == {1}, \"{0}\");\n", stringify!($Struct), size_of::<$Struct>()),
            $(format!(
                "_Static_assert(offsetof({0}, {1}) == {2}, \"{0}.{1}\");\n",
                stringify!($Struct),
                stringify!($member),
                offset_of!($Struct, $member)
            ),)*
        )*]
        .concat()
    };
}

#[test]
fn structs_lie_alike_in_c() {
    let asserted = laid_out! {
        OptcShape { input, dims, rank }
        OptcOptions {
            size, threads, passes, isa, shapes, shape_count, memory_limit, time_limit_ms, copy, trust
        }
        OptcPort { name, dtype, rank, dims }
        OptcOperand { dtype, rank, dims, data, size }
        OptcTensor { dtype, rank, dims, data, size }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("layout.c");
    std::fs::write(&source, format!("#include \"optc.h\"\n{asserted}")).expect("a file");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let checked = Command::new(compiler).args(["-std=c11", "-fsyntax-only", include]).arg(&source).output();
    let checked = checked.expect("there is a C compiler");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
