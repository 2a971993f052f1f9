//! The filetests: text in, text out. This is the only code that knows how they are run.
//!
//! A file in `tests/filetests` holds cases with `// ---` lines between them. A case starts with `// test: KIND
//! ARGUMENTS`; one without takes that of the case before it. What the kinds check:
//!
//! - `roundtrip`: the text prints as it stands, and what is printed parses to the same text.
//! - `verify`: each `// error: SUBSTRING` at the end of a line is said of that line, and nothing else is.
//! - `passes PIPELINE`: the printed result is the snapshot's, and the interpreter's results stay what they were, pass
//!   by pass.
//! - `lower [kernels|draft] PIPELINE`: the program that the passes' result is lowered to for the portable target is the
//!   snapshot's, with or without its kernels, or before its last rewrites, and its text reads back.
//! - `kernel run`: each `// run: @k(f32[1, 2], f32[0, 0]) == f32[2, 4]` of a kernel's text holds, by its interpreter
//!   and compiled, where this machine has its vectors: bytes of all buffers before, and of those that are written
//!   after.
//! - `asm ROW`: the machine code of a kernel's tiles, disassembled, is the snapshot's.
//! - `run`: each `// run: @f([1, -2]) == [1, 0]` holds, by the interpreter and by the compiled model. Values are in
//!   row-major order, with `2x1[...]` where the shape is not the declared one; exact unless the line ends with
//!   `~ 1e-5`. Each `// run: @f([3]) fails: MESSAGE (C2)` is an error of both, which says so; the compiled model may
//!   word it differently, but for the number of the constraint.
//!
//! `INSTA_UPDATE=always cargo test -p optc-tests --test filetests` writes the snapshots; review them before committing.

use std::path::Path;

use optc_ir::{Graph, Val, Verified, parse, print, run, verify};
use optc_kernel::program::Program;
use optc_kernel::target::{Isa, Target};
use optc_lower::{LowerOptions, lower};
use optc_tests::{TestFailure, kernel_text, literal};

/// One case of a file.
struct Case<'a> {
    kind: &'a str,
    argument: &'a str,
    text: &'a str,
}

fn cases(source: &str) -> Vec<Case<'_>> {
    let mut header = ("", "");
    let mut cases = vec![];
    for text in source.split("// ---\n") {
        if let Some(line) = text.lines().find_map(|l| l.strip_prefix("// test: ")) {
            header = line.split_once(' ').unwrap_or((line, ""));
        }
        cases.push(Case { kind: header.0, argument: header.1, text });
    }
    cases
}

#[test]
fn filetests_hold() {
    insta::glob!("../filetests", "**/*.ir", |path| {
        let source = std::fs::read_to_string(path).expect("the file can be read");
        let mut printed = vec![];
        for case in cases(&source) {
            let outcome = match case.kind {
                "roundtrip" => check_roundtrip(case.text),
                "verify" => check_verify(case.text),
                "run" => check_run(case.text),
                "kernel" if case.argument == "run" => kernel_text::check_runs(case.text),
                "asm" => kernel_text::disassembled(case.text, case.argument).map(|text| printed.push(text)),
                "passes" => optc_passes::testing::check(case.text, case.argument, &optc_passes::Registry::standard())
                    .map(|text| printed.push(text))
                    .map_err(TestFailure::from),
                "lower" => program(case.text, case.argument).map(|text| printed.push(text)),
                other => Err(format!("there is no kind `{other}`").into()),
            };
            if let Err(error) = outcome {
                panic!("{}:\n{}\n{error}", path.display(), case.text);
            }
        }
        if !printed.is_empty() {
            let options = insta_settings(path);
            options.bind(|| insta::assert_snapshot!(printed.join("\n")));
        }
    });
}

fn insta_settings(path: &Path) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_input_file(path);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// The program of a graph, for the portable target with the default caches, so that it is the same on every machine.
fn program(text: &str, argument: &str) -> Result<String, TestFailure> {
    let how = argument.split_once(' ').filter(|(how, _)| ["kernels", "draft"].contains(how));
    let (how, pipeline) = how.unwrap_or(("", argument));
    let mut graph = parse(text)?;
    let passes = optc_passes::Pipeline::parse(pipeline)?;
    let manager = optc_passes::PassManager::new(optc_passes::PassOptions::default());
    manager.run(&passes, &mut graph)?;
    let isa = Isa::by_name("portable").ok_or("there is no portable target")?;
    let target = Target::of(isa);
    let graph = Verified::new(graph)?;
    let program = lower(graph, &target, LowerOptions { draft: how == "draft", ..LowerOptions::default() })?;
    let printed = program.print();
    let read = Program::parse(&printed.text, &printed.constants.into_iter().collect());
    if read.map_err(|e| format!("{e}\n{}", printed.text))? != program {
        return Err(format!("read back it is another program:\n{}", printed.text).into());
    }
    let end = printed.text.find("\nkernel @").map_or(printed.text.len(), |at| at + 1);
    Ok(if how == "kernels" { printed.text } else { printed.text[..end].to_owned() })
}

fn check_roundtrip(text: &str) -> Result<(), TestFailure> {
    let graph = parse(text)?;
    let printed = print(&graph).text;
    let again = parse(&printed)?;
    if print(&again).text != printed {
        return Err(format!("printed, parsed and printed again it is\n{}", print(&again).text).into());
    }
    if printed == literal::code(text) { Ok(()) } else { Err(format!("it prints as\n{printed}").into()) }
}

fn check_verify(text: &str) -> Result<(), TestFailure> {
    let mut expected: Vec<(usize, &str)> =
        text.lines().enumerate().filter_map(|(i, l)| Some((i + 1, l.split_once("// error: ")?.1.trim()))).collect();
    let found: Vec<(usize, String)> = match parse(text) {
        Err(error) => vec![(error.line, error.message)],
        Ok(graph) => verify(&graph).into_iter().map(|f| (line_of(text, &graph, f.node), f.message)).collect(),
    };
    for (line, message) in found {
        let at = expected.iter().position(|(l, part)| *l == line && message.contains(part));
        expected.remove(at.ok_or_else(|| format!("line {line}: not expected: {message}"))?);
    }
    match expected.first() {
        None => Ok(()),
        Some((line, part)) => Err(format!("line {line}: nothing says `{part}`").into()),
    }
}

/// The line of a node of the outermost function, or that of the function itself.
fn line_of(text: &str, graph: &Graph, node: Option<optc_ir::NodeId>) -> usize {
    let mut depth = 0;
    let mut ops = vec![];
    let mut first = 1;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("func") {
            depth += 1;
            if depth == 1 {
                first = i + 1;
            }
        } else if line.starts_with('}') {
            depth -= 1;
        } else if line.starts_with('%') && depth == 1 {
            ops.push(i + 1);
        }
    }
    let op = node.and_then(|n| n.index().checked_sub(graph.inputs().len()));
    op.and_then(|op| ops.get(op).copied()).unwrap_or(first)
}

fn check_run(text: &str) -> Result<(), TestFailure> {
    let graph = parse(text)?;
    let failures = verify(&graph);
    if let Some(failure) = failures.first() {
        return Err(format!("{}: {}", failure.rule, failure.message).into());
    }
    for line in literal::run_lines(text)? {
        let call = literal::parse_call(line, &graph).map_err(|e| format!("`{line}`: {e}"))?;
        let outcome = run(&graph, &call.inputs).map_err(TestFailure::from);
        call.check(outcome).map_err(|e| format!("`{line}`: interpreter: {e}"))?;
        let outcome = run_compiled(&graph, &call.inputs);
        call.check_compiled(outcome).map_err(|e| format!("`{line}`: compiled: {e}"))?;
    }
    Ok(())
}

/// Runs the graph as a host program would.
fn run_compiled(graph: &Graph, inputs: &[Val]) -> Result<Vec<Val>, TestFailure> {
    let model = optc::Compiler::default().compile_graph(graph.clone())?;
    Ok(model.session().run_values(inputs)?)
}
