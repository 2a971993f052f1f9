//! A spinner on stderr, when that is a terminal. Nothing is drawn while something is timed: commands that measure show
//! none.

use std::time::Duration;

use indicatif::ProgressBar;

/// Says what is being done until it is dropped.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Begins to say `what`.
    pub fn new(what: impl Into<String>) -> Spinner {
        let bar = ProgressBar::new_spinner().with_message(what.into()); // hidden where stderr is no terminal
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
