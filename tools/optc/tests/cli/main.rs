//! The real command on the models in `testdata`.

mod common;
mod errors;
mod limits;
mod prune;
mod quantize;
mod reports;
mod run;
mod tune;
