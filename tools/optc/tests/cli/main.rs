//! The real command on the models in `testdata`.

mod common;
mod errors;
mod reports;
mod run;
