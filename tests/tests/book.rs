//! The book in `compiler/docs` cannot rot: what it prints is made again and compared, and each path that it names
//! exists.
//!
//! A fenced block whose info string begins with `optc` is a level of the page's network. Those that come first say what
//! the later ones are made of:
//!
//! - `graph`: a graph, as it prints.
//! - `import`: that graph, written as ONNX and read back.
//! - `passes=PIPELINE`: what passes make of the graph that was last imported or given.
//! - `draft`, `program`: what that is lowered to for the `portable` row, before and after the last rewrites, without
//!   kernels.
//! - `kernel K`, `tile K T`: the nest of kernel `K` of the program, and its tile `T`.
//! - `asm ROW K T`: the machine code of this tile where the program is made for another row.
//! - `run`: calls of the graph, as in filetests; they hold by the interpreter and compiled.
//!
//! `UPDATE_BOOK=1 cargo test -p optc-tests --test book` writes the blocks anew; review them before committing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use optc_ir::{Verified, parse, print, run};
use optc_kernel::nest::Kernel;
use optc_kernel::program::Program;
use optc_kernel::target::{Isa, Target};
use optc_kernel::tile::Tile;
use optc_lower::{LowerOptions, lower};
use optc_passes::{PassManager, PassOptions, Pipeline, VerifyEach};
use optc_tests::data::repository;
use optc_tests::{TestFailure, kernel_text, literal};
use prost::Message;

/// What the blocks of a page have made so far.
#[derive(Default)]
struct Page {
    /// The graph that was imported or given.
    graph: String,
    /// What the last passes made of it.
    passed: String,
}

/// A row of the target table.
fn row(name: &str) -> Result<&'static Isa, TestFailure> {
    Isa::by_name(name).ok_or_else(|| format!("there is no target `{name}`").into())
}

impl Page {
    /// What stands in a block of this kind, where `found` stands now.
    fn block(&mut self, kind: &str, found: &str) -> Result<String, TestFailure> {
        let words: Vec<&str> = kind.split_whitespace().collect();
        match words.as_slice() {
            ["graph"] => {
                self.graph = print(&parse(found).map_err(TestFailure::from)?).text;
                Ok(self.graph.clone())
            }
            ["import"] => {
                let graph = parse(&self.graph).map_err(TestFailure::from)?;
                let bytes = optc_onnx::export_model(&graph).map_err(TestFailure::from)?.encode_to_vec();
                self.graph = print(&optc_onnx::import_bytes(&bytes).map_err(TestFailure::from)?).text;
                Ok(self.graph.clone())
            }
            [passes] if passes.starts_with("passes=") => {
                self.passed = self.passed_by(passes.trim_start_matches("passes="))?;
                Ok(self.passed.clone())
            }
            ["draft" | "program"] => {
                let text = self.program("portable", kind == "draft")?.print().text;
                let end = text.find("\nkernel @").map_or(text.len(), |at| at + 1);
                Ok(text[..end].to_owned())
            }
            ["kernel", k] => Ok(Kernel { tiles: vec![], ..self.kernel("portable", k)? }.to_string()),
            ["tile", k, t] => self.tile("portable", k, t, |tile, _| Ok(tile.to_string())),
            ["asm", row, k, t] => self.tile(row, k, t, kernel_text::listing),
            ["run"] => found.lines().try_for_each(|line| self.call(line)).map(|()| found.to_owned()),
            _ => Err(format!("there is no block `{kind}`").into()),
        }
    }

    /// What passes make of the graph for the `portable` row, checked after each by verifier and interpreter.
    fn passed_by(&self, passes: &str) -> Result<String, TestFailure> {
        let machine = optc::MachineProfile::default().of(row("portable")?);
        let options = PassOptions {
            verify_each: VerifyEach::Numerics,
            machine: Some(Arc::new(machine)),
            ..PassOptions::default()
        };
        let mut graph = parse(&self.graph).map_err(TestFailure::from)?;
        let pipeline = Pipeline::parse(passes).map_err(TestFailure::from)?;
        PassManager::new(options).run(&pipeline, &mut graph).map_err(TestFailure::from)?;
        Ok(print(&graph).text)
    }

    fn program(&self, name: &str, draft: bool) -> Result<Program, TestFailure> {
        let graph = parse(&self.passed).map_err(TestFailure::from)?;
        let graph = Verified::new(graph).map_err(TestFailure::from)?;
        let options = LowerOptions { draft, ..LowerOptions::default() };
        lower(graph, &Target::of(row(name)?), options).map_err(TestFailure::from)
    }

    fn kernel(&self, name: &str, k: &str) -> Result<Kernel, TestFailure> {
        let kernels = self.program(name, false)?.kernels;
        let kernel = k.parse().ok().and_then(|k: usize| kernels.get(k).cloned());
        kernel.ok_or_else(|| format!("there is no kernel {k}").into())
    }

    fn tile(
        &self,
        name: &str,
        k: &str,
        t: &str,
        text: impl Fn(&Tile, &Isa) -> Result<String, TestFailure>,
    ) -> Result<String, TestFailure> {
        let kernel = self.kernel(name, k)?;
        let tile = t.parse().ok().and_then(|t: usize| kernel.tiles.get(t));
        text(tile.ok_or_else(|| format!("kernel {k} has no tile {t}"))?, row(name)?)
    }

    fn call(&self, line: &str) -> Result<(), TestFailure> {
        let graph = parse(&self.graph).map_err(TestFailure::from)?;
        let call = literal::parse_call(line, &graph)?;
        call.check(run(&graph, &call.inputs).map_err(TestFailure::from))?;
        let model = optc::Compiler::default().compile_graph(graph).map_err(TestFailure::from)?;
        call.check_compiled(model.session().run_values(&call.inputs).map_err(TestFailure::from))
    }
}

/// A page with its blocks made anew.
fn renewed(text: &str) -> Result<String, TestFailure> {
    let (mut page, mut out, mut lines) = (Page::default(), String::new(), text.lines());
    while let Some(line) = lines.next() {
        out.push_str(&format!("{line}\n"));
        let Some(kind) = line.strip_prefix("```optc ") else { continue };
        let found: String = lines.by_ref().take_while(|l| *l != "```").map(|l| format!("{l}\n")).collect();
        out.push_str(&page.block(kind, &found).map_err(|e| format!("`{kind}`: {e}"))?);
        out.push_str("```\n");
    }
    Ok(out)
}

/// The pages, and the files that lead to them.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(repository().join("compiler/docs")).expect("the book");
    let mut pages: Vec<String> = docs
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("compiler/docs/{name}"))
        .chain(["README.md", "compiler/ARCHITECTURE.md"].map(str::to_owned))
        .collect();
    pages.sort();
    pages
}

#[test]
fn what_the_book_prints_is_what_is_printed() {
    for page in pages() {
        let path = repository().join(&page);
        let text = fs::read_to_string(&path).expect("a page");
        let renewed = renewed(&text).unwrap_or_else(|e| panic!("{page}: {e}"));
        if std::env::var_os("UPDATE_BOOK").is_some() {
            fs::write(&path, &renewed).expect("the page can be written");
            continue;
        }
        if let Some((found, made)) = text.lines().zip(renewed.lines()).find(|(a, b)| a != b) {
            panic!("{page} has\n  {found}\nwhere it would be\n  {made}\n(UPDATE_BOOK=1 writes the page anew)");
        }
        assert_eq!(text.lines().count(), renewed.lines().count(), "{page}: a block ends early (UPDATE_BOOK=1)");
    }
}

/// Whether a word in backticks is a path: `folder/file.ext` or `folder/folder/`.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let Some((_, last)) = word.rsplit_once('/') else { return false };
    let file = last.rsplit_once('.').is_some_and(|(_, ending)| ending.starts_with(|c: char| c.is_ascii_alphabetic()));
    word.chars().all(plain)
        && !word.starts_with(['/', '.'])
        && (last.is_empty() || file)
        && !word.starts_with("target/")
}

/// The paths that a page names outside of its blocks: in backticks, and in links.
fn paths(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut words, mut links, mut inside) = (vec![], vec![], false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            words.extend(line.split('`').skip(1).step_by(2).filter(|word| is_path(word)));
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            links.extend(targets.filter_map(|link| link.split('#').next()));
        }
    }
    links.retain(|link| !link.is_empty() && !link.contains("://"));
    (words, links)
}

#[test]
fn every_path_that_the_book_names_exists() {
    let mut missing = vec![];
    for page in pages() {
        let text = fs::read_to_string(repository().join(&page)).expect("a page");
        let folder = repository().join(&page).parent().map(Path::to_owned).expect("a folder");
        let (words, links) = paths(&text);
        assert!(page != "compiler/docs/README.md" || links.len() > 10, "{page} does not list its pages");
        let words = words.into_iter().filter(|word| !repository().join(word).exists());
        missing.extend(words.map(|word| format!("{page}: `{word}`")));
        let links = links.into_iter().filter(|link| !folder.join(link).exists());
        missing.extend(links.map(|link| format!("{page}: ({link})")));
    }
    assert!(missing.is_empty(), "paths from the root of the repository, links from the page:\n{}", missing.join("\n"));
}

#[test]
fn every_page_is_listed() {
    let contents = fs::read_to_string(repository().join("compiler/docs/README.md")).expect("the contents");
    for page in pages() {
        let Some(name) = page.strip_prefix("compiler/docs/").filter(|name| *name != "README.md") else { continue };
        assert!(contents.contains(&format!("({name})")), "compiler/docs/README.md has no link to {name}");
    }
}

#[test]
fn paths_are_told_from_other_words() {
    let text = "`a/b.rs` and [c](d.md#e), `a/b`, `http://x/y.z`\n```\n`n/o.rs`\n```\n`f/g/` [h](https://i.j/k.l)";
    assert_eq!(paths(text), (vec!["a/b.rs", "f/g/"], vec!["d.md"]));
}
