//! A Cranelift module that is nothing but code: its functions lie one after the other and call only each other.
//!
//! The result is a value, [`MachineCode`], the same for the process that compiles and for a file. It needs no
//! linker: the only relocations of kernels are their calls of tiles.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Signature;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc, ModuleRelocTarget,
    ModuleResult,
};
use optc_runtime::MachineCode;
use std::collections::HashMap;

use super::EmitError;

/// The least alignment of a function: that of a cache line.
const ALIGN: usize = 64;

/// Functions that are put together into a text. See the [module](self).
pub(super) struct TextModule {
    isa: OwnedTargetIsa,
    declarations: ModuleDeclarations,
    text: Vec<u8>,
    /// Where each function begins.
    starts: HashMap<FuncId, usize>,
    /// What is still to be filled in, at offsets of the text.
    relocs: Vec<ModuleReloc>,
}

impl TextModule {
    pub(super) fn new(isa: OwnedTargetIsa) -> TextModule {
        let declarations = ModuleDeclarations::default();
        TextModule { isa, declarations, text: Vec::new(), starts: HashMap::new(), relocs: Vec::new() }
    }

    /// The linked text with these entries.
    pub(super) fn link(mut self, entries: &[FuncId]) -> Result<MachineCode, EmitError> {
        for reloc in std::mem::take(&mut self.relocs) {
            self.patch(&reloc)?;
        }
        let entries = entries.iter().map(|id| self.starts.get(id).copied().ok_or_else(|| unknown(id)));
        Ok(MachineCode { entries: entries.collect::<Result<_, _>>()?, text: self.text })
    }

    /// Fills in one call.
    fn patch(&mut self, reloc: &ModuleReloc) -> Result<(), EmitError> {
        let at = reloc.offset as usize;
        let ModuleRelocTarget::User { namespace: 0, index } = reloc.name else {
            return Err(EmitError::Link(format!("kernels call nothing but tiles, not {}", reloc.name)));
        };
        let function = FuncId::from_u32(index);
        let start = *self.starts.get(&function).ok_or_else(|| unknown(&function))?;
        let distance = start as i64 + reloc.addend - at as i64;
        let far = || EmitError::Link(format!("a call over {distance} bytes is too far"));
        let word: &mut [u8; 4] =
            self.text.get_mut(at..).and_then(|t| t.first_chunk_mut()).ok_or_else(|| unknown(&function))?;
        match reloc.kind {
            Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => {
                *word = i32::try_from(distance).map_err(|_| far())?.to_le_bytes();
            }
            Reloc::Arm64Call => {
                let words = i32::try_from(distance / 4).ok().filter(|w| (-(1 << 25)..1 << 25).contains(w));
                let words = words.ok_or_else(far)? as u32 & 0x03ff_ffff;
                *word = (u32::from_le_bytes(*word) | words).to_le_bytes();
            }
            other => return Err(EmitError::Link(format!("a relocation of kind {other}"))),
        }
        Ok(())
    }
}

fn unknown(id: &FuncId) -> EmitError {
    EmitError::Link(format!("{id} was not defined"))
}

/// The answer to what no kernel asks for.
fn no_data() -> ModuleError {
    ModuleError::Backend(anyhow::anyhow!("a text has functions only"))
}

impl Module for TextModule {
    fn isa(&self) -> &dyn TargetIsa {
        self.isa.as_ref()
    }

    fn declarations(&self) -> &ModuleDeclarations {
        &self.declarations
    }

    fn declare_function(&mut self, name: &str, linkage: Linkage, signature: &Signature) -> ModuleResult<FuncId> {
        Ok(self.declarations.declare_function(name, linkage, signature)?.0)
    }

    fn declare_anonymous_function(&mut self, signature: &Signature) -> ModuleResult<FuncId> {
        self.declarations.declare_anonymous_function(signature)
    }

    fn declare_data(&mut self, _: &str, _: Linkage, _: bool, _: bool) -> ModuleResult<DataId> {
        Err(no_data())
    }

    fn declare_anonymous_data(&mut self, _: bool, _: bool) -> ModuleResult<DataId> {
        Err(no_data())
    }

    fn define_function_with_control_plane(
        &mut self,
        id: FuncId,
        context: &mut cranelift_codegen::Context,
        plane: &mut ControlPlane,
    ) -> ModuleResult<()> {
        context.compile(self.isa.as_ref(), plane)?;
        let compiled = context.compiled_code().ok_or_else(no_data)?;
        let (bytes, align) = (compiled.code_buffer().to_vec(), u64::from(compiled.buffer.alignment));
        let relocs = compiled.buffer.relocs().iter();
        let relocs: Vec<_> = relocs.map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
        self.define_function_bytes(id, align, &bytes, &relocs)
    }

    fn define_function_bytes(
        &mut self,
        id: FuncId,
        align: u64,
        bytes: &[u8],
        relocs: &[ModuleReloc],
    ) -> ModuleResult<()> {
        let start = self.text.len().next_multiple_of(ALIGN.max(align as usize));
        if self.starts.insert(id, start).is_some() {
            return Err(ModuleError::DuplicateDefinition(id.to_string()));
        }
        self.text.resize(start, 0);
        self.text.extend_from_slice(bytes);
        self.relocs.extend(relocs.iter().cloned().map(|r| ModuleReloc { offset: r.offset + start as u32, ..r }));
        Ok(())
    }

    fn define_data(&mut self, _: DataId, _: &DataDescription) -> ModuleResult<()> {
        Err(no_data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cranelift_codegen::ir::{AbiParam, types};
    use cranelift_codegen::settings;

    /// `call rel32; ret` that calls another function, and that function: `mov eax, edi; ret`.
    const CALLER: [u8; 6] = [0xe8, 0, 0, 0, 0, 0xc3];
    const CALLED: [u8; 3] = [0x89, 0xf8, 0xc3];

    fn module() -> (TextModule, [FuncId; 2]) {
        let isa = cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu").unwrap();
        let isa = isa.finish(settings::Flags::new(settings::builder())).unwrap();
        let mut module = TextModule::new(isa);
        let mut signature = module.make_signature();
        signature.params.push(AbiParam::new(types::I64));
        let ids = ["caller", "called"].map(|n| module.declare_function(n, Linkage::Local, &signature).unwrap());
        (module, ids)
    }

    fn call(kind: Reloc, to: FuncId) -> ModuleReloc {
        ModuleReloc { offset: 1, kind, name: to.into(), addend: -4 }
    }

    #[test]
    fn calls_reach_what_lies_behind_and_before() {
        for turned in [false, true] {
            let (mut module, [caller, called]) = module();
            for id in if turned { [called, caller] } else { [caller, called] } {
                let calls = [call(Reloc::X86CallPCRel4, called)];
                let (bytes, relocs) = if id == caller { (&CALLER[..], &calls[..]) } else { (&CALLED[..], &[][..]) };
                module.define_function_bytes(id, 16, bytes, relocs).unwrap();
            }
            let code = module.link(&[caller, called]).unwrap();
            let [from, to] = [code.entries[0], code.entries[1]];
            assert_eq!((from.abs_diff(to), from % ALIGN), (ALIGN, 0));
            let distance = i32::from_le_bytes(code.text[from + 1..from + 5].try_into().unwrap());
            assert_eq!(from as i64 + 5 + i64::from(distance), to as i64);
        }
    }

    #[test]
    fn what_cannot_be_linked_is_an_error() {
        let (mut m, [caller, called]) = module();
        m.define_function_bytes(caller, 16, &CALLER, &[call(Reloc::X86CallPCRel4, called)]).unwrap();
        assert!(m.define_function_bytes(caller, 16, &CALLER, &[]).is_err());
        assert!(m.link(&[caller]).unwrap_err().to_string().contains("was not defined"));
        let (mut m, [caller, _]) = module();
        m.define_function_bytes(caller, 16, &CALLER, &[call(Reloc::Abs8, caller)]).unwrap();
        assert!(m.link(&[caller]).unwrap_err().to_string().contains("relocation"));
    }
}
