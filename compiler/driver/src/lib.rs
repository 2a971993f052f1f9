//! Compiler, model and session: the library that a host embeds.
