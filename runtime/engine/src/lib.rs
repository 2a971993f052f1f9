//! Plans, arenas, the worker pool, sessions, profiling and artifacts.

pub mod kernel;
