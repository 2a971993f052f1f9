//! Texts of programs: what is read prints and reads back as it was.
//!
//! The bytes of constants are not part of an input: they are zeros of the types that the text declares, and checksums
//! of constants count for nothing, so that a text may declare others.

use std::collections::HashMap;

use optc::{Program, ProgramText};
use optc_tensor::Tensor;
use optc_types::{Cursor, TensorType};

/// The most bytes of a constant that are made up.
const LARGEST: usize = 64 << 10;

/// Reads a program; whether it is one.
pub fn run(input: &[u8]) -> bool {
    let (text, constants) = with_constants(&String::from_utf8_lossy(input));
    let Ok(program) = Program::parse(&text, &constants) else { return false };
    let printed = program.print();
    let again = Program::parse(&printed.text, &printed.constants.into_iter().collect());
    let again = again.unwrap_or_else(|e| panic!("{e}:\n{}", printed.text));
    assert!(again == program, "read back it is another program:\n{}", printed.text);
    true
}

/// A program's text with zeros for constants: what mutations begin with.
pub fn seed(program: &Program) -> Option<Vec<u8>> {
    let mut program = program.clone();
    for constant in &mut program.flow.constants {
        constant.tensor = Tensor::zeros(constant.tensor.dtype(), constant.tensor.shape()).ok()?;
    }
    let ProgramText { text, constants } = program.print();
    let small = constants.iter().all(|(_, t)| t.bytes().len() <= LARGEST);
    small.then(|| text.into_bytes())
}

/// The text with the checksums of zeros, and the zeros.
fn with_constants(text: &str) -> (String, HashMap<String, Tensor>) {
    let mut constants = HashMap::new();
    let lines = text.lines().map(|line| match zeros(line) {
        Some((name, tensor)) => {
            let declared = line.split('#').next().unwrap_or_default();
            let line = format!("{declared}#{:08x}", Program::checksum(&tensor));
            constants.insert(name, tensor);
            line
        }
        None => line.to_owned(),
    });
    (lines.collect::<Vec<_>>().join("\n"), constants)
}

/// The constant that a line declares.
fn zeros(line: &str) -> Option<(String, Tensor)> {
    let mut cursor = Cursor::new(line);
    if !cursor.eat("const ") && !cursor.eat("data ") {
        return None;
    }
    let name = cursor.word("a name").ok()?.to_owned();
    cursor.expect(":").ok()?;
    let ty = cursor.ty().ok()?;
    let TensorType { dtype, .. } = *ty.as_tensor()?;
    let shape = ty.as_tensor()?.static_shape()?;
    let bytes = optc_tensor::element_count(&shape).and_then(|n| dtype.bytes_for(n))?;
    (bytes <= LARGEST).then(|| Tensor::zeros(dtype, &shape).ok()).flatten().map(|t| (name, t))
}
