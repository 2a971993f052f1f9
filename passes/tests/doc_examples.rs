//! Runs the example in every pass's documentation: an example cannot rot, and a pass without one fails.
//!
//! The first `optc` block is the graph before: a `given` line types the free values, a `// passes:` line replaces the
//! pass's name where it takes options, and the last line's results are returned unless the block has a `return`. What
//! is indented lies in a region. The second block is the graph after.

use optc_passes::Registry;
use optc_passes::testing::check;
use std::path::Path;

/// The `optc` blocks of a file's module documentation.
fn blocks(source: &str) -> Vec<String> {
    let docs = source.lines().take_while(|l| l.starts_with("//!"));
    let mut blocks: Vec<String> = vec![];
    let mut inside = false;
    for line in docs.map(|l| l.strip_prefix("//! ").unwrap_or_default()) {
        match line {
            "```optc" => {
                inside = true;
                blocks.push(String::new());
            }
            "```" => inside = false,
            line if inside => {
                let block = blocks.last_mut().expect("a block was opened");
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// A block as a function. Returns the passes that it names, too.
fn function(block: &str) -> (String, Option<String>) {
    let (mut given, mut body, mut passes, mut last) = (String::new(), String::new(), None, String::new());
    let mut returns = false;
    for line in block.lines() {
        if let Some(types) = line.strip_prefix("given ") {
            given = types.to_owned();
        } else if let Some(text) = line.strip_prefix("// passes: ") {
            passes = Some(text.to_owned());
        } else {
            returns |= line.starts_with("return");
            if line.starts_with('%') {
                last = line.split(" = ").next().unwrap_or_default().to_owned();
            }
            body.push_str(line);
            body.push('\n');
        }
    }
    if !returns {
        let values: Vec<String> = last.split(", ").enumerate().map(|(i, v)| format!("{v} as \"y{i}\"")).collect();
        body.push_str(&format!("return {}\n", values.join(", ")));
    }
    (format!("func @example({given}) {{\n{body}}}"), passes)
}

#[test]
fn documentation_examples_hold() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let registry = Registry::standard();
    for info in registry.passes() {
        let file = src.join(format!("{}.rs", info.name.replace('-', "_")));
        let source =
            std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("`{}` has no file of its name", info.name));
        let blocks = blocks(&source);
        assert_eq!(blocks.len(), 2, "`{}` has no example with a before and an after", info.name);
        let (before, passes) = function(&blocks[0]);
        let (after, _) = function(&blocks[1]);
        let found = check(&before, passes.as_deref().unwrap_or(info.name), &registry)
            .unwrap_or_else(|e| panic!("`{}`: {e}", info.name));
        let expected = check(&after, "", &registry).unwrap_or_else(|e| panic!("`{}`, after: {e}", info.name));
        assert_eq!(found, expected, "`{}`: found the left, documented is the right\n{found}\n{expected}", info.name);
    }
}
