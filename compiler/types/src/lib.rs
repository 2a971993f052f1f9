//! Words shared by crates that do not know each other: a leaf. The types of values, the values themselves, what is
//! wrong with them, ops as the engine sees them, features of CPUs, the steps of a program, products, and machines as
//! those who choose between forms of a product see them.
//!
//! It is data and traits; nothing here computes. It must not know graphs, kernels, targets or the system. Start in
//! `steps.rs`, which says what a program does, then `types.rs` and `machine.rs`. The cursor in `text.rs` reads the text
//! forms of graphs and programs.

mod error;
mod features;
mod host;
mod machine;
mod nanos;
mod product;
mod reason;
pub mod steps;
mod text;
mod types;
mod value;

pub use error::{GraphError, OpError};
pub use features::{Feature, Features};
pub use host::{Callable, HostOp, HostText};
pub use machine::{Change, Form, Machine};
pub use nanos::Nanos;
pub use product::{Numbers, Product};
pub use reason::{Reason, ReasonCode};
pub use text::{Cursor, ParseError, quoted};
pub use types::{Dim, Encoding, MAX_EXTENT, TensorType, Type};
pub use value::Val;
