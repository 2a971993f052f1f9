//! Programs with machine code, in artifacts.

use std::sync::Arc;

use optc_kernel::program::{Program, ProgramError};
use optc_kernel::target::{Isa, Target};
use optc_runtime::{Executable, MachineCode, Plan};
use optc_tensor::{ALIGN, Tensor};

use crate::artifact::{Artifact, ArtifactError, damaged};
use crate::load::{LoadError, Resolver};

/// A program and the machine code of its kernels, to be put into an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeCode {
    /// The program, whose kernels have no bodies any more.
    pub program: Program,
    /// Their code.
    pub code: MachineCode,
}

/// A program with machine code, in an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeProgram {
    number: usize,
    target: Target,
}

impl NativeProgram {
    /// What the code is for.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl Artifact {
    /// The programs with machine code that it holds.
    ///
    /// # Errors
    /// The artifact is damaged.
    pub fn native(&self) -> Result<Vec<NativeProgram>, ArtifactError> {
        let of = |number| {
            let target = Program::parse_target(self.native_text(number)?).map_err(|e| damaged(e.to_string()))?;
            Ok(NativeProgram { number, target })
        };
        (0..self.natives()).map(of).collect()
    }

    /// The best program that this machine runs, or the one for a row; none also where the artifact is damaged.
    pub fn native_here(&self, isa: Option<&Isa>) -> Option<NativeProgram> {
        let mut here = self.native().ok()?;
        here.retain(|native| crate::host::runs(&native.target) && isa.is_none_or(|isa| isa == native.target.isa));
        here.into_iter().min_by_key(|native| native.target.isa.rank())
    }

    /// A program with machine code as data: nothing of it is run. The sums of its constants are checked.
    ///
    /// # Errors
    /// The artifact is damaged.
    pub fn native_code(&self, native: &NativeProgram) -> Result<NativeCode, ArtifactError> {
        let constants = self.native_constants(native.number, true)?;
        let program = Program::parse(self.native_text(native.number)?, &constants);
        let program = program.map_err(|e| damaged(e.to_string()))?;
        Ok(NativeCode { program, code: self.machine_code(native.number)? })
    }

    /// The plan of a program with machine code, and the program, whose constants are not looked at. Code and tables are
    /// checked against damage, not against malice.
    ///
    /// # Safety
    /// The code is run as it is: the artifact must come from whoever may run code in this process.
    ///
    /// # Errors
    /// The artifact is damaged, the resolver refuses an op, or the system gives no memory for code.
    pub unsafe fn plan(&self, native: &NativeProgram, resolve: &Resolver) -> Result<(Plan, Program), ArtifactError> {
        let constants = self.native_constants(native.number, false)?;
        let program = Program::parse_mapped(self.native_text(native.number)?, &constants);
        let mut program = program.map_err(|e| damaged(e.to_string()))?;
        align(&mut program)?;
        let code = self.machine_code(native.number)?;
        if code.entries.len() != program.all_kernels().len() {
            return Err(damaged("the artifact is damaged: it has not the code of each kernel"));
        }
        // SAFETY: the caller vouches for the code, which is what was compiled of this program for a target that this
        // machine is.
        let code = unsafe { Executable::new(&code) }?;
        let plan = crate::plan(&program, Arc::new(code), resolve).map_err(|e| match e {
            LoadError::Memory(e) => ArtifactError::Io(e),
            other => damaged(other.to_string()),
        })?;
        Ok((plan, program))
    }
}

fn align(program: &mut Program) -> Result<(), ArtifactError> {
    program.flow.constants.iter_mut().try_for_each(|constant| aligned(&mut constant.tensor))?;
    program.bodies.iter_mut().try_for_each(|body| align(&mut body.program))
}

/// Kernels take constants at addresses that are aligned: those of a mapped file are.
fn aligned(t: &mut Tensor) -> Result<(), ArtifactError> {
    if !t.bytes().as_ptr().addr().is_multiple_of(ALIGN) {
        t.bytes_mut().map_err(|e| damaged(e.to_string()))?; // a copy: a file's bytes are not written
    }
    Ok(())
}

impl NativeCode {
    /// Of a program and the code of its kernels, whose bodies are left out.
    ///
    /// # Errors
    /// The program is not well formed.
    pub fn new(mut program: Program, code: MachineCode) -> Result<NativeCode, ProgramError> {
        program.verify()?;
        program.declare();
        Ok(NativeCode { program, code })
    }
}
