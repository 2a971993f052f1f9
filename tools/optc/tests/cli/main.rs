//! The real command on the models in `testdata`.

mod common;
mod errors;
mod prune;
mod quantize;
mod reports;
mod run;
mod tune;
