//! Rewrites, analyses and the pass manager.
