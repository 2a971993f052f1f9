//! The real command on the models in `testdata`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod archives;
mod common;
mod errors;
mod files;
mod limits;
mod prune;
mod quantize;
mod reports;
mod run;
mod target;
mod tune;
