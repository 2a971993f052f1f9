//! `--autotune`: measures schedules before a command does its work, and keeps what won in a tuning cache.

use std::path::PathBuf;
use std::time::Duration;

use optc::{Compiler, Options, TuningCache};
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::InputArgs;
use crate::load::{LoadedModel, load};
use crate::options::{ModelArgs, seconds};
use crate::progress::Spinner;
use crate::report::note;

/// Whether schedules are measured.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TuneArgs {
    /// Measure which schedules are fastest, for about S seconds, and take those. They are written to the tuning cache,
    /// by default `optc/tuning.json` in the user's cache folder; what is known there is not measured again
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub autotune: Option<f64>,
}

impl TuneArgs {
    /// Says that a model is compiled, unless schedules are measured meanwhile: nothing is drawn then.
    pub fn compiling(&self) -> Option<Spinner> {
        self.autotune.is_none().then(|| Spinner::new("compiling"))
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct TuneReport {
    /// Choices that the model has.
    points: usize,
    /// How many of them are not the cost model's.
    changed: usize,
    /// Plans that were measured.
    trials: usize,
    /// Whether all options were tried in the time.
    complete: bool,
    /// Time of a run, relative to that before.
    share: f64,
    /// Where the winners are kept.
    cache: PathBuf,
}

/// Loads the model, and tunes it if that is asked for.
///
/// # Errors
/// The model or the cache cannot be used, or a run fails.
pub fn load_tuned(
    model: &ModelArgs,
    tune: &TuneArgs,
    input: &InputArgs,
    mut options: Options,
) -> Outcome<(LoadedModel, Option<TuneReport>)> {
    let Some(seconds) = tune.autotune else {
        return Ok((load(&model.model, &Compiler::new(options))?, None));
    };
    let path = model.how.tuning_cache.clone().map_or_else(default_cache, Ok)?;
    let mut cache = TuningCache::read(&path)?;
    (options.tuning, options.keep_graph) = (cache.clone(), true);
    let mut loaded = load(&model.model, &Compiler::new(options))?;
    let values = input.values(&loaded.model)?;
    crate::execute::check(&loaded.model.session(), &values)?;
    let tuned = loaded.model.autotune(&values, Duration::from_secs_f64(seconds))?;
    cache.merge(tuned.winners);
    cache.write(&path)?;
    loaded.model = tuned.model;
    let (points, changed, trials, complete, share) =
        (tuned.points, tuned.changed, tuned.trials, tuned.complete, tuned.share);
    let more = if complete { "" } else { "; options are left to try" };
    note(&format!(
        "autotune: {trials} trials, {changed} of {points} choices changed, {share:.3} of the time before{more}; see \
         `{}`",
        path.display()
    ));
    Ok((loaded, Some(TuneReport { points, changed, trials, complete, share, cache: path })))
}

/// `$XDG_CACHE_HOME/optc/tuning.json`, or below `~/.cache`.
fn default_cache() -> Outcome<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let none =
        || CommandError::new(Exit::Usage, "there is no folder for the tuning cache: name one with --tuning-cache");
    Ok(caches.ok_or_else(none)?.join("optc").join("tuning.json"))
}
