//! The subcommands, one file each: arguments, the report that it prints, and `run`.

pub mod bench;
pub mod check;
pub mod compare;
pub mod compile;
pub mod completions;
pub mod explain;
pub mod hwbench;
pub mod inspect;
pub mod opt;
pub mod passes;
pub mod profile;
pub mod prune;
pub mod quantize;
mod roofline;
pub mod run;
pub mod targets;
