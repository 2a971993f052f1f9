//! `tensor`: constants, shapes and data movement.

mod canvas;
mod constant;
mod gather;
mod generate;
mod join;
mod pad;
mod pick;
mod rearrange;
mod reshape;
mod scatter;
mod select;

pub(crate) use canvas::{Canvas, copy_view, gather_elements};
pub use constant::*;
pub use gather::*;
pub use generate::*;
pub use join::*;
pub use pad::*;
pub use pick::*;
pub use rearrange::*;
pub use reshape::*;
pub use scatter::*;
pub use select::*;
