//! Ops that the application registered.

use optc_ir::Attr;
use optc_ir::ops::custom::CustomCall;

use super::spelling::spell_owned;
use super::{Exporter, Site};
use crate::Diagnostic;

impl Exporter {
    /// The node that the call was made of.
    pub(super) fn custom(&mut self, call: &CustomCall, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spell_owned(&call.domain, &call.name, call.version);
        for (name, attr) in &call.attributes {
            spelling = match attr {
                Attr::Int(i) => spelling.int(name, *i),
                Attr::Real(f) => spelling.float(name, *f),
                Attr::Str(s) => spelling.string(name, s),
                Attr::Ints(ints) => spelling.all_ints(name, ints),
                Attr::Reals(floats) => spelling.floats(name, floats),
                Attr::Strs(strings) => spelling.strings(name, strings),
                Attr::Const(c) => spelling.tensor(name, &c.0),
                Attr::Bool(_) | Attr::DType(_) | Attr::Type(_) => {
                    let reason = format!("attribute `{name}` of `{}` has no form in ONNX", call.name);
                    return Err(Diagnostic::unsupported("export", reason));
                }
            };
        }
        self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }
}
