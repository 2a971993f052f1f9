//! `custom`: ops of a user's own, which an application registers by domain and name.
//!
//! Nothing is known of such an op but what its [`CustomOp`] says: the types of its results, and the results themselves,
//! which the host computes. It is registered for the whole process, since a graph, its text form and an artifact name
//! the op and nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use optc_tensor::Tensor;

use crate::{Args, Attr, AttrValue, Decl, Facts, Graph, InferCx, OpError, OperandSpec, Semantics, Type, Val, ensure};

/// Why a custom op refuses a call.
pub type CustomError = Box<dyn std::error::Error + Send + Sync>;

/// What an op of a user's own means. Any thread may call it, several at a time.
pub trait CustomOp: Send + Sync {
    /// The types of the results. They may have open dims, which an evaluation then decides.
    ///
    /// # Errors
    /// The op does not take these operands or attributes; say what it expects.
    fn infer(&self, call: &CustomCall, operands: &CustomOperands) -> Result<Vec<Type>, CustomError>;

    /// The results, of the types that [`CustomOp::infer`] gives. `None` stands for an operand that is absent.
    ///
    /// # Errors
    /// The op cannot be computed for these values.
    fn eval(&self, call: &CustomCall, operands: &[Option<Val>]) -> Result<Vec<Val>, CustomError>;

    /// A graph that computes the call, with an input for each operand that is there and an output for each result:
    /// passes put it in the place of the call. `None` where there is none, or none yet for operands of these types.
    ///
    /// # Errors
    /// As [`CustomOp::infer`].
    fn expand(&self, _: &CustomCall, _: &CustomOperands) -> Result<Option<Graph>, CustomError> {
        Ok(None)
    }
}

/// The operands of a call, before their values are known.
#[derive(Debug, Clone, Copy)]
pub struct CustomOperands<'a> {
    /// Their types; `None` for absent ones.
    pub types: &'a [Option<&'a Type>],
    /// Their values where they are constants.
    pub constants: &'a [Option<&'a Tensor>],
}

/// An op is registered already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the custom op `{domain}::{name}` is registered already")]
pub struct RegisteredTwice {
    /// The op's domain.
    pub domain: String,
    /// The op's name.
    pub name: String,
}

type Registered = BTreeMap<(String, String), Arc<dyn CustomOp>>;

static REGISTERED: RwLock<Registered> = RwLock::new(BTreeMap::new());

/// Registers an op for this process: models imported, and artifacts loaded, from now on may call it.
///
/// # Errors
/// One of this domain and name is registered.
pub fn register_custom_op(domain: &str, name: &str, op: Arc<dyn CustomOp>) -> Result<(), RegisteredTwice> {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    match registered.entry((domain.to_owned(), name.to_owned())) {
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(op);
            Ok(())
        }
        std::collections::btree_map::Entry::Occupied(_) => {
            Err(RegisteredTwice { domain: domain.to_owned(), name: name.to_owned() })
        }
    }
}

/// The op of this domain and name, if it is registered.
pub fn custom_op(domain: &str, name: &str) -> Option<Arc<dyn CustomOp>> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    registered.get(&(domain.to_owned(), name.to_owned())).cloned()
}

/// A call of a custom op: `custom.call %x {callee = "domain::Name@version", …}`, with the attributes of the ONNX node.
///
/// - (C1) An op of this domain and name is registered, and takes the operands and attributes.
/// - (C2) It gives results of the types that it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomCall {
    /// The domain of the op.
    pub domain: String,
    /// The name of the op.
    pub name: String,
    /// The version of the domain's operator set.
    pub version: i64,
    /// The attributes, sorted by name.
    pub attributes: Vec<(String, Attr)>,
}

/// The attribute of the text form that says which op is called.
const CALLEE: &str = "callee";

impl Hash for CustomCall {
    fn hash<H: Hasher>(&self, h: &mut H) {
        (&self.domain, &self.name, self.version, self.attributes.len()).hash(h);
    }
}

impl CustomCall {
    /// A call with these attributes.
    ///
    /// # Errors
    /// An attribute has the name by which the text form says which op is called.
    pub fn new(
        domain: &str,
        name: &str,
        version: i64,
        mut attributes: Vec<(String, Attr)>,
    ) -> Result<CustomCall, OpError> {
        if attributes.iter().any(|(name, _)| name == CALLEE) {
            let reason = "a custom op cannot have an attribute of this name".to_owned();
            return Err(OpError::Attribute { name: CALLEE.to_owned(), reason });
        }
        attributes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(CustomCall { domain: domain.to_owned(), name: name.to_owned(), version, attributes })
    }

    /// An attribute, if it is given.
    pub fn attribute(&self, name: &str) -> Option<&Attr> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, attr)| attr)
    }

    /// An attribute as a value of Rust, if it is given and of that kind: `i64`, [`Real`](crate::Real), `String`, lists
    /// of these, [`Const`](crate::Const).
    pub fn attribute_as<T: AttrValue>(&self, name: &str) -> Option<T> {
        T::from_attr(self.attribute(name)?)
    }

    /// The graph that computes the call for operands of these types, if there is one. See [`CustomOp::expand`].
    ///
    /// # Errors
    /// As [`Semantics::infer`].
    pub fn expansion(&self, operands: &CustomOperands) -> Result<Option<Graph>, OpError> {
        self.registered()?.expand(self, operands).map_err(|e| self.refused(&e))
    }

    fn registered(&self) -> Result<Arc<dyn CustomOp>, OpError> {
        let (domain, name) = (&self.domain, &self.name);
        custom_op(domain, name).ok_or_else(|| OpError::Constraint {
            constraint: "C1",
            reason: format!("no custom op `{domain}::{name}` is registered in this process"),
        })
    }

    fn refused(&self, error: &CustomError) -> OpError {
        OpError::Constraint { constraint: "C1", reason: format!("`{}::{}`: {error}", self.domain, self.name) }
    }
}

impl Decl for CustomCall {
    const NAME: &'static str = "custom.call";
    const OPERANDS: &'static [OperandSpec] = &[OperandSpec::Many("operands")];

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let callee = format!("{}::{}@{}", self.domain, self.name, self.version);
        let own = self.attributes.iter().map(|(name, attr)| (Cow::Owned(name.clone()), attr.clone()));
        std::iter::once((Cow::Borrowed(CALLEE), Attr::Str(callee))).chain(own).collect()
    }

    fn from_attrs(mut attrs: Vec<(String, Attr)>) -> Result<Self, OpError> {
        let callee: String = super::take_attr(&mut attrs, CALLEE, None)?;
        let parts = callee.split_once("::").and_then(|(domain, rest)| {
            let (name, version) = rest.rsplit_once('@')?;
            Some((domain, name, version.parse().ok()?))
        });
        let (domain, name, version) = parts.ok_or_else(|| OpError::Attribute {
            name: CALLEE.to_owned(),
            reason: format!("is {callee:?}, expected \"domain::Name@version\""),
        })?;
        CustomCall::new(domain, name, version, attrs)
    }
}

impl Semantics for CustomCall {
    const FACTS: Facts<CustomCall> = Facts::host("it is a custom op").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let operands = CustomOperands { types: cx.types, constants: cx.consts };
        self.registered()?.infer(self, &operands).map_err(|e| self.refused(&e))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let op = self.registered()?;
        let types: Vec<Option<Type>> = args.values.iter().map(|v| v.as_ref().map(Val::ty)).collect();
        let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
        let constants: Vec<Option<&Tensor>> = args.values.iter().map(|v| v.as_ref()?.as_tensor()).collect();
        let operands = CustomOperands { types: &types, constants: &constants };
        let expected = op.infer(self, &operands).map_err(|e| self.refused(&e))?;
        let results = op.eval(self, args.values).map_err(|e| self.refused(&e))?;
        let (domain, name) = (&self.domain, &self.name);
        let (n, m) = (results.len(), expected.len());
        ensure!(n == m, "C2", "`{domain}::{name}` gave {n} results, and said {m}");
        for (i, (result, ty)) in results.iter().zip(&expected).enumerate() {
            let found = result.ty();
            ensure!(ty.admits(&found), "C2", "result {i} of `{domain}::{name}` is {found}, and was said to be {ty}");
        }
        Ok(results)
    }
}
