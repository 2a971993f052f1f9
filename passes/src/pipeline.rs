//! Pipelines: lists of passes as text, and the named ones.

use crate::registry::RunFn;
use crate::store_halves::StoreHalves;
use crate::{Pass, PassArguments, PassError, Registry};

/// A named pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedPipeline {
    /// The name.
    pub name: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// Its passes. Names of pipelines above it may stand in it.
    pub passes: &'static str,
}

/// The named pipelines.
pub static PIPELINES: &[NamedPipeline] = &[
    NamedPipeline {
        name: "O0",
        summary: "what is needed to run",
        // Shapes need constants: a reshape's target is often computed, so folding comes between two inferences.
        passes: "infer-types,fold-constants,infer-types,dce",
    },
    NamedPipeline {
        name: "clean-up",
        summary: "canonical form, no duplicates, nothing unused",
        // `decompose` leaves reshapes and transposes for `canonicalize`. Canonical form first, so that `cse` sees equal
        // things spelled equally; `dce` last, for what the others left.
        passes: "O0,decompose,canonicalize,cse,dce",
    },
    NamedPipeline {
        name: "integers",
        summary: "integer ops for what stands between quantizations",
        // Halves become `f32` before constants do. Constants stay quantized until `fold-quant` has seen them, and the
        // products among what `decompose` makes.
        passes: "infer-types,widen,fold-constants{quantized=keep},infer-types,dce,decompose,fold-quant",
    },
    NamedPipeline {
        name: "O1",
        summary: "clean-ups, layouts and fusion",
        passes: "infer-types,widen,clean-up,defer-open-shapes,assign-layout,to-bf16{layers=noted},fuse,store-halves,\
                 schedule",
    },
    NamedPipeline {
        name: "O2",
        summary: "everything that keeps f32 results within documented bounds",
        // Canonical form before `recompose`, whose patterns are in it, and formulas found before `simplify-algebra`
        // moves things into them, or into products that are merged; the clean-up after these computes what they made
        // from constants. What is deferred goes through all this again, so it leaves before decisions on extents. What
        // is sparse wants another layout, so that is decided before; layouts before fusion, which only joins what lies
        // alike. Constants are stored as halves when nobody looks for them any more. Products of models in bfloat16
        // round where that is faster.
        passes: "integers,clean-up,fold-batch-norm,recompose,merge-products,simplify-algebra,clean-up,\
                 defer-open-shapes,to-bcsr,assign-layout{to=nhwc},to-bf16{layers=noted},fuse,store-halves,schedule",
    },
    NamedPipeline { name: "O3", summary: "the same passes as `O2`", passes: "O2" },
];

/// One pass of a pipeline, ready to run.
pub(crate) struct PassStep {
    /// The pass with its options, as it stands in the text.
    pub text: String,
    /// The pass's name.
    pub name: &'static str,
    /// What it may do to results.
    pub numerics: crate::Numerics,
    /// The pass.
    pub run: RunFn,
}

/// A parsed pipeline.
pub struct Pipeline {
    pub(crate) steps: Vec<PassStep>,
}

impl Pipeline {
    /// [`Registry::parse`] with the standard registry.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Pipeline, PassError> {
        Registry::standard().parse(text)
    }

    /// The pipeline for a graph that is lowered and never written: without `store-halves`, which makes artifacts
    /// smaller. Constants then stay those of the graph, and what is packed of them is shared.
    pub fn unwritten(mut self) -> Pipeline {
        self.steps.retain(|step| step.name != StoreHalves::NAME);
        self
    }

    /// The passes in order, with their options.
    pub fn passes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|s| s.text.as_str())
    }
}

impl Registry {
    /// Parses `name{key=value,...},name,...`; a name is a pass or a named pipeline.
    ///
    /// # Errors
    /// A name or an option is unknown, or braces do not match.
    pub fn parse(&self, text: &str) -> Result<Pipeline, PassError> {
        self.parse_within(text, self.pipelines())
    }

    fn parse_within(&self, text: &str, pipelines: &[NamedPipeline]) -> Result<Pipeline, PassError> {
        let mut steps = vec![];
        for item in items(text)? {
            match pipelines.iter().position(|p| p.name == item) {
                Some(i) => steps.extend(self.parse_within(pipelines[i].passes, &pipelines[..i])?.steps),
                None => steps.push(step(item, self)?),
            }
        }
        Ok(Pipeline { steps })
    }
}

/// Splits at the commas outside of braces.
fn items(text: &str) -> Result<Vec<&str>, PassError> {
    let error = |reason| PassError::Syntax { text: text.to_owned(), reason };
    let (mut items, mut start, mut depth) = (vec![], 0, 0usize);
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1).ok_or_else(|| error("a `}` has no `{`"))?,
            ',' if depth == 0 => {
                items.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(error("a `{` has no `}`"));
    }
    items.push(text[start..].trim());
    let all_blank = items.iter().all(|i| i.is_empty());
    if items.len() > 1 && items.iter().any(|i| i.is_empty()) {
        return Err(error("a name is missing"));
    }
    Ok(if all_blank { vec![] } else { items })
}

fn step(item: &str, registry: &Registry) -> Result<PassStep, PassError> {
    let (name, options) = match item.split_once('{') {
        None => (item, ""),
        Some((name, rest)) => match rest.strip_suffix('}') {
            Some(options) => (name.trim(), options),
            None => return Err(PassError::Syntax { text: item.to_owned(), reason: "expected `,` behind `}`" }),
        },
    };
    let info = registry.find(name).ok_or_else(|| PassError::UnknownPass { name: name.to_owned() })?;
    let mut options = parse_options(item, options)?;
    let run = info.make(&mut options).map_err(|error| PassError::Option { pass: name.to_owned(), error })?;
    Ok(PassStep { text: item.to_owned(), name: info.name, numerics: info.numerics, run })
}

/// `key=value` pairs with `,` or `;` between them.
fn parse_options(item: &str, text: &str) -> Result<PassArguments, PassError> {
    let mut options = PassArguments::default();
    for pair in text.split([',', ';']).map(str::trim).filter(|p| !p.is_empty()) {
        let syntax = |reason| PassError::Syntax { text: item.to_owned(), reason };
        let (key, value) = pair.rsplit_once('=').ok_or_else(|| syntax("an option is `key=value`"))?;
        if options.0.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
            return Err(syntax("an option is given twice"));
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_pipeline_parses() {
        for named in PIPELINES {
            assert!(Pipeline::parse(named.passes).unwrap().passes().count() > 0, "{}", named.name);
        }
    }

    #[test]
    fn pipelines_have_options_and_names() {
        let p = Pipeline::parse("dce, fold-constants{max_bytes=16},O0").unwrap();
        assert_eq!(p.passes().take(2).collect::<Vec<_>>(), ["dce", "fold-constants{max_bytes=16}"]);
        assert_eq!(Pipeline::parse(" ").unwrap().passes().count(), 0);
    }

    #[test]
    fn pipelines_of_other_people_name_those_before_them() {
        let named = |name, passes| NamedPipeline { name, summary: "", passes };
        let registry =
            Registry::standard().with_pipeline(named("mine", "O0,cse")).with_pipeline(named("O3", "mine,dce"));
        let passes = |text: &str| registry.parse(text).map(|p| p.passes().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(passes("O3").unwrap()[4..], ["cse", "dce"]);
        assert_eq!(registry.pipelines().iter().filter(|p| p.name == "O3").count(), 1);
        let own = registry.clone().with_pipeline(named("again", "again"));
        assert!(own.parse("again").err().unwrap().to_string().contains("no pass or pipeline `again`"));
        assert!(own != registry && registry == registry.clone());
    }

    #[test]
    fn bad_pipelines_are_refused() {
        for (text, message) in [
            ("frobnicate", "no pass or pipeline `frobnicate`"),
            ("dce,", "a name is missing"),
            ("dce{", "a `{` has no `}`"),
            ("dce}", "a `}` has no `{`"),
            ("dce{a=1}", "option `a`: is not an option of this pass"),
            ("fold-constants{max_bytes=many}", "`many` is not a value"),
            ("dce{x}", "an option is `key=value`"),
            ("dce{}dce", "expected `,`"),
        ] {
            let error = Pipeline::parse(text).err().unwrap().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
