//! How one IR op is spelled as one ONNX node: its name, its operator set and its attributes.

use std::borrow::Cow;

use bytes::Bytes;
use optc_ir::{Real, Type};
use optc_tensor::{DType, Tensor};

use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto};
use crate::{code_of_dtype, write_tensor, write_type};

/// The operator set that is written where the graph was not imported from ONNX.
pub(super) const BASE_OPSET: i64 = 21;

/// A node's op and attributes. Those that have the defaults of the standard's schema are left out when it is written.
pub(super) struct OnnxSpelling {
    pub(super) domain: Cow<'static, str>,
    pub(super) op: Cow<'static, str>,
    /// The version of the operator set that has the op in this form, as far as its schemas do not say so: they know
    /// dtypes, the number of inputs and names of attributes.
    pub(super) since: i64,
    pub(super) attributes: Vec<AttributeProto>,
}

/// An op of the standard domain.
pub(super) fn spell(op: &'static str) -> OnnxSpelling {
    OnnxSpelling { domain: Cow::Borrowed(""), op: Cow::Borrowed(op), since: 1, attributes: vec![] }
}

/// An op of another domain, whose names are not known here.
pub(super) fn spell_owned(domain: &str, op: &str, version: i64) -> OnnxSpelling {
    let own = |name: &str| Cow::Owned(name.to_owned());
    OnnxSpelling { domain: own(domain), op: own(op), since: version, attributes: vec![] }
}

/// [`spell()`] of a name that is known here. One that no table in `compiler/onnx/src/ops` imports does not compile:
/// what is written is read again.
macro_rules! spelled {
    ($op:literal) => {{
        const _: () = assert!(
            crate::ops::imports($op),
            concat!("`", $op, "` is exported, and no table in `onnx/src/ops` has it")
        );
        $crate::export::spelling::spell($op)
    }};
}
pub(super) use spelled;

impl OnnxSpelling {
    /// The op in another domain, of the given version.
    pub(super) fn of(mut self, domain: &'static str, version: i64) -> OnnxSpelling {
        (self.domain, self.since) = (Cow::Borrowed(domain), version);
        self
    }

    /// The version that has the op.
    pub(super) fn since(mut self, version: i64) -> OnnxSpelling {
        self.since = self.since.max(version);
        self
    }

    fn with(mut self, name: &str, kind: AttributeType, value: AttributeProto) -> OnnxSpelling {
        self.attributes.push(AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..value });
        self
    }

    pub(super) fn int(self, name: &str, i: i64) -> OnnxSpelling {
        self.with(name, AttributeType::Int, AttributeProto { i: Some(i), ..AttributeProto::default() })
    }

    /// An integer that is left out where it has its default.
    pub(super) fn int_or(self, name: &str, i: i64, default: i64) -> OnnxSpelling {
        if i == default { self } else { self.int(name, i) }
    }

    /// A truth value that is left out where it is false.
    pub(super) fn flag(self, name: &str, flag: bool) -> OnnxSpelling {
        self.int_or(name, i64::from(flag), 0)
    }

    pub(super) fn float(self, name: &str, f: Real) -> OnnxSpelling {
        self.with(name, AttributeType::Float, AttributeProto { f: Some(f.0), ..AttributeProto::default() })
    }

    /// A list of integers; an empty one is left out.
    pub(super) fn ints(self, name: &str, ints: &[i64]) -> OnnxSpelling {
        if ints.is_empty() {
            return self;
        }
        self.with(name, AttributeType::Ints, AttributeProto { ints: ints.to_vec(), ..AttributeProto::default() })
    }

    /// A list of integers, be it empty.
    pub(super) fn all_ints(self, name: &str, ints: &[i64]) -> OnnxSpelling {
        self.with(name, AttributeType::Ints, AttributeProto { ints: ints.to_vec(), ..AttributeProto::default() })
    }

    /// A list of integers that is left out where all are the default.
    pub(super) fn ints_or(self, name: &str, ints: &[i64], default: i64) -> OnnxSpelling {
        if ints.iter().all(|&i| i == default) { self } else { self.ints(name, ints) }
    }

    /// With the axes that count from the end counted from the front, as all did before operator set 11.
    pub(super) fn axes_from_the_front(mut self, opset: i64, rank: Option<usize>) -> OnnxSpelling {
        let is_axis = |a: &&mut AttributeProto| matches!(a.name(), "axis" | "axes");
        for attribute in self.attributes.iter_mut().filter(|_| opset < 11).filter(is_axis) {
            for axis in attribute.i.iter_mut().chain(&mut attribute.ints).filter(|axis| **axis < 0) {
                match rank {
                    Some(rank) => *axis += rank as i64,
                    None => self.since = self.since.max(11),
                }
            }
        }
        self
    }

    /// A list of floats; an empty one is left out.
    pub(super) fn floats(self, name: &str, floats: &[Real]) -> OnnxSpelling {
        if floats.is_empty() {
            return self;
        }
        let floats = floats.iter().map(|f| f.0).collect();
        self.with(name, AttributeType::Floats, AttributeProto { floats, ..AttributeProto::default() })
    }

    pub(super) fn string(self, name: &str, s: &str) -> OnnxSpelling {
        let s = Some(Bytes::copy_from_slice(s.as_bytes()));
        self.with(name, AttributeType::String, AttributeProto { s, ..AttributeProto::default() })
    }

    /// A list of strings; an empty one is left out.
    pub(super) fn strings(self, name: &str, strings: &[String]) -> OnnxSpelling {
        if strings.is_empty() {
            return self;
        }
        let strings = strings.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
        self.with(name, AttributeType::Strings, AttributeProto { strings, ..AttributeProto::default() })
    }

    pub(super) fn dtype(self, name: &str, dtype: DType) -> OnnxSpelling {
        self.int(name, i64::from(code_of_dtype(dtype)))
    }

    pub(super) fn tensor(self, name: &str, tensor: &Tensor) -> OnnxSpelling {
        let t = Some(write_tensor("", tensor));
        self.with(name, AttributeType::Tensor, AttributeProto { t, ..AttributeProto::default() })
    }

    pub(super) fn ty(self, name: &str, ty: &Type) -> OnnxSpelling {
        let tp = Some(write_type(ty));
        self.with(name, AttributeType::TypeProto, AttributeProto { tp, ..AttributeProto::default() })
    }

    pub(super) fn graph(self, name: &str, graph: GraphProto) -> OnnxSpelling {
        self.with(name, AttributeType::Graph, AttributeProto { g: Some(graph), ..AttributeProto::default() })
    }
}
