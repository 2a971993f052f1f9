//! The real command on the models in `testdata`.

mod common;
mod errors;
mod prune;
mod reports;
mod run;
