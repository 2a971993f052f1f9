//! `tensor`: constants, shapes and data movement.

mod canvas;
mod constant;
mod join;
mod pad;
mod reshape;
mod select;

pub(crate) use canvas::{Canvas, copy_view, gather_elements};
pub use constant::*;
pub use join::*;
pub use pad::*;
pub use reshape::*;
pub use select::*;
