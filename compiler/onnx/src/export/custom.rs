//! Ops that the application registered, and nodes that wait.

use optc_ir::Attr;
use optc_ir::ops::custom::CustomCall;

use super::spelling::{OnnxSpelling, spell_owned};
use super::{Exporter, Site};
use crate::Diagnostic;
use crate::ops::waiting::{self, WAITING};
use crate::proto::AttributeProto;

impl Exporter {
    /// The node that the call was made of.
    pub(super) fn custom(&mut self, call: &CustomCall, site: &Site) -> Result<(), Diagnostic> {
        let domain = if call.domain == WAITING { "" } else { &call.domain };
        let attributes = if domain.is_empty() { waiting::own_attributes(call) } else { call.attributes.clone() };
        let spelling = with_attributes(spell_owned(domain, &call.name, call.version), &attributes);
        self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }
}

/// The attributes of a call as those of a node.
pub(crate) fn call_attributes(attributes: &[(String, Attr)]) -> Vec<AttributeProto> {
    with_attributes(spell_owned("", "", 0), attributes).attributes
}

fn with_attributes(spelling: OnnxSpelling, attributes: &[(String, Attr)]) -> OnnxSpelling {
    attributes.iter().fold(spelling, |spelling, (name, attr)| match attr {
        Attr::Int(i) => spelling.int(name, *i),
        Attr::Bool(flag) => spelling.int(name, i64::from(*flag)),
        Attr::Real(f) => spelling.float(name, *f),
        Attr::Str(s) => spelling.string(name, s),
        Attr::Ints(ints) => spelling.all_ints(name, ints),
        Attr::Reals(floats) => spelling.floats(name, floats),
        Attr::Strs(strings) => spelling.strings(name, strings),
        Attr::Const(c) => spelling.tensor(name, &c.0),
        Attr::DType(dtype) => spelling.dtype(name, *dtype),
        Attr::Type(ty) => spelling.ty(name, ty),
    })
}
