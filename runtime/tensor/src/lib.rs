//! Dtypes, shapes, aligned buffers and files: what every other crate of optc computes with, reads and writes.
//!
//! A [`Tensor`] is a dtype, a concrete shape and row-major bytes, shared by reference count. What work may use is said
//! here as well: an account of [`Memory`] and a [`Deadline`].
//!
//! In: numbers, `.npy` and `.npz` files, mapped files. Out: tensors, and files that are written whole or not at all. It
//! knows nothing about graphs, ONNX or kernels. Start in `tensor.rs`, then `memory.rs`.

mod borrowed;
mod buffer;
mod compare;
mod deadline;
mod draws;
mod dtype;
mod facts;
mod memory;
mod mmap;
pub mod npy;
mod random;
mod read_file;
mod small_float;
mod tensor;
mod weak;
mod write_file;

pub use borrowed::{TensorMut, TensorRef};
pub use buffer::{ALIGN, Buffer};
pub use compare::{Difference, Tolerance};
pub use deadline::{Deadline, OutOfTime, Until};
pub use draws::{Draws, DrawsScope};
pub use dtype::{DType, Element};
pub use facts::{ConstantFacts, count};
pub use memory::{Bytes, Claim, Entered, Memory, OutOfMemory};
pub use mmap::{MappedFile, evict};
pub use random::{Philox, Random};
pub use read_file::{FileAccess, FileBytes, open_plain};
pub use small_float::{Overflow, Rounding};
pub use tensor::{Tensor, TensorError, broadcast_shapes, element_count, for_each_index, strides_of};
pub use weak::WeakTensor;
pub use write_file::write_file;

pub use half::{bf16, f16};
