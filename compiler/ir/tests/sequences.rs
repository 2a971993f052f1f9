//! Sequences, optionals and strings: what they compute, and what they refuse.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::error::Error;

use optc_ir::{Val, infer_types, parse, print, run, verify};
use optc_tensor::{DType, Tensor};

/// Runs a text on no operands.
fn results(text: &str) -> Result<Vec<Val>, Box<dyn Error>> {
    let mut graph = parse(text)?;
    infer_types(&mut graph)?;
    assert_eq!(verify(&graph), []);
    let printed = print(&graph);
    let constants = printed.constants.iter().cloned().collect();
    assert_eq!(print(&optc_ir::parse_with(&printed.text, &constants).unwrap()), printed);
    Ok(run(&graph, &[])?)
}

/// Runs a text on one tensor of strings.
fn on_strings(op: &str, x: &[&str]) -> Vec<Tensor> {
    let text = format!("func @f(%x: tensor<?xstr>) {{ {op} }}");
    let mut graph = parse(&text).unwrap();
    infer_types(&mut graph).unwrap();
    let x = Tensor::from_strings(&[x.len()], x.iter().map(|&s| s.to_owned()).collect()).unwrap();
    run(&graph, &[x.into()]).unwrap().iter().map(|v| v.as_tensor().unwrap().clone()).collect()
}

const LIST: &str = r#"
  %a = tensor.const {value = dense<[1.0]> : tensor<1xf32>} : tensor<1xf32>
  %b = tensor.const {value = dense<[2.0, 3.0]> : tensor<2xf32>} : tensor<2xf32>
  %i = tensor.const {value = dense<[AT]> : tensor<i64>} : tensor<i64>
  %s = seq.construct %a, %b : seq<tensor<?xf32>>"#;

fn list(at: i64, rest: &str) -> Result<Vec<Val>, Box<dyn Error>> {
    results(&format!("func @f() {{ {}\n {rest} }}", LIST.replace("AT", &at.to_string())))
}

#[test]
fn sequences_grow_shrink_and_are_indexed_from_both_ends() {
    let values = |v: &Val| match v {
        Val::Seq(_, items) => items.iter().map(|t| t.as_tensor().unwrap().to_f64_vec()).collect::<Vec<_>>(),
        other => vec![other.as_tensor().unwrap().to_f64_vec()],
    };
    let insert = "%r = seq.insert %s, %a, %i : seq<tensor<?xf32>> return %r as \"r\"";
    assert_eq!(values(&list(-1, insert).unwrap()[0]), [vec![1.0], vec![1.0], vec![2.0, 3.0]]);
    assert_eq!(values(&list(2, insert).unwrap()[0]), [vec![1.0], vec![2.0, 3.0], vec![1.0]]);
    assert!(list(3, insert).unwrap_err().to_string().contains("(C3)"));
    let at = "%r = seq.at %s, %i : tensor<?xf32> return %r as \"r\"";
    assert_eq!(values(&list(-1, at).unwrap()[0]), [vec![2.0, 3.0]]);
    assert!(list(2, at).unwrap_err().to_string().contains("(C3)"));
    let erase =
        "%r = seq.erase %s, _ : seq<tensor<?xf32>> %n = seq.length %r : tensor<i64> return %r as \"r\", %n as \"n\"";
    let erased = list(0, erase).unwrap();
    assert_eq!((values(&erased[0]), values(&erased[1])), (vec![vec![1.0]], vec![vec![1.0]]));
    let joined = list(0, "%r = seq.concat %s {axis = 0} : tensor<?xf32> return %r as \"r\"").unwrap();
    assert_eq!(values(&joined[0]), [vec![1.0, 2.0, 3.0]]);
    let stacked = list(0, "%r = seq.concat %s {axis = 0, new_axis = true} : tensor<?x?xf32> return %r as \"r\"");
    assert!(stacked.unwrap_err().to_string().contains("(C2)"));
    let mixed = list(0, "%r = seq.insert %s, %i, _ : seq<tensor<?xf32>> return %r as \"r\"");
    assert!(mixed.unwrap_err().to_string().contains("(C2)"));
    assert!(list(0, "%r = seq.length %a : tensor<i64> return %r as \"r\"").unwrap_err().to_string().contains("(C1)"));
}

#[test]
fn a_split_tensor_comes_back_together() {
    let text = |split: &str, rest: &str| {
        results(&format!(
            r#"func @f() {{
              %x = tensor.const {{value = dense<[1, 2, 3, 4, 5, 6]> : tensor<2x3xi64>}} : tensor<2x3xi64>
              %n = tensor.const {{value = dense<[2]> : tensor<i64>}} : tensor<i64>
              {split}
              {rest} }}"#
        ))
    };
    let whole = "%y = seq.concat %s {axis = 1} : tensor<2x?xi64> return %y as \"y\"";
    let y = text("%s = seq.split %x, %n {axis = -1} : seq<tensor<2x?xi64>>", whole).unwrap();
    assert_eq!(y[0].as_tensor().unwrap().to_i64_vec(), [1, 2, 3, 4, 5, 6]);
    let columns = "%s = seq.split %x {axis = 1, keep_dims = false} : seq<tensor<2xi64>>";
    let stacked = "%y = seq.concat %s {axis = -1, new_axis = true} : tensor<2x?xi64> return %y as \"y\"";
    let y = text(columns, stacked).unwrap();
    assert_eq!(
        (y[0].as_tensor().unwrap().shape(), y[0].as_tensor().unwrap().to_i64_vec()),
        (&[2, 3][..], vec![1, 2, 3, 4, 5, 6])
    );
}

#[test]
fn optionals_hold_something_or_nothing() {
    let run = |make: &str| {
        results(&format!(
            "func @f() {{ %x = tensor.const {{value = dense<[7]> : tensor<1xi64>}} : tensor<1xi64> {make} \
             %h = opt.has %o : tensor<bool> %g = opt.get %o : tensor<1xi64> return %h as \"h\", %g as \"g\" }}"
        ))
    };
    let full = run("%o = opt.some %x : opt<tensor<1xi64>>").unwrap();
    let ints = |v: &Val| v.as_tensor().unwrap().to_i64_vec();
    assert_eq!((ints(&full[0]), ints(&full[1])), (vec![1], vec![7]));
    assert!(run("%o = opt.none {of = tensor<1xi64>} : opt<tensor<1xi64>>").unwrap_err().to_string().contains("(C1)"));
}

#[test]
fn strings_split_at_delimiters_and_at_runs_of_blanks() {
    let split = |attrs: &str, x: &[&str]| {
        on_strings(
            &format!("%p, %n = str.split %x {attrs} : tensor<?x?xstr>, tensor<?xi64> return %p as \"p\", %n as \"n\""),
            x,
        )
    };
    let r = split("{delimiter = \"--\"}", &["a--b", "", "--c----"]);
    assert_eq!(r[0].strings().unwrap(), ["a", "b", "", "", "", "", "", "", "", "c", "", ""].map(str::to_owned));
    assert_eq!(r[1].to_i64_vec(), [2, 0, 4]);
    let r = split("{max_split = 1}", &["  one  two three ", " "]);
    assert_eq!(r[0].strings().unwrap(), ["one", "two three", "", ""].map(str::to_owned));
}

#[test]
fn strings_match_as_a_whole_and_normalize() {
    let m =
        on_strings("%r = str.match %x {pattern = \"a|ab\"} : tensor<?xbool> return %r as \"r\"", &["ab", "abc", "a"]);
    assert_eq!(m[0].to_i64_vec(), [1, 0, 1]);
    let n = "%r = str.normalize %x {case = \"upper\", stopwords = [\"The\"]} : tensor<?xstr> return %r as \"r\"";
    assert_eq!(on_strings(n, &["the", "cat"])[0].strings().unwrap(), ["CAT"]);
    assert_eq!(on_strings(n, &["the"])[0].strings().unwrap(), [""]);
    let c = on_strings("%r = str.concat %x, %x : tensor<?xstr> return %r as \"r\"", &["é", ""]);
    assert_eq!(c[0].strings().unwrap(), ["éé", ""]);
    let bad = "func @f(%x: tensor<?xstr>) { %r = str.match %x {pattern = \"(\"} : tensor<?xbool> return %r as \"r\" }";
    assert!(infer_types(&mut parse(bad).unwrap()).unwrap_err().to_string().contains("(C2)"));
}

#[test]
fn lookups_find_nan_and_fall_back() {
    let text = r#"func @f(%x: tensor<3xf32>) {
      %y = ml.lookup %x {default = dense<[-1]> : tensor<i64>, keys = @k, values = dense<[5, 6]> : tensor<2xi64>}
        : tensor<3xi64>
      return %y as "y" }"#;
    let keys = Tensor::from_slice(&[2], &[f32::NAN, 2.5]).unwrap();
    let graph = optc_ir::parse_with(text, &[("k".to_owned(), keys)].into()).unwrap();
    let x = Tensor::from_slice(&[3], &[2.5f32, -f32::NAN, 2.0]).unwrap();
    let y = run(&graph, &[x.into()]).unwrap();
    assert_eq!(y[0].as_tensor().unwrap().to_i64_vec(), [6, 5, -1]);
    assert_eq!(y[0].as_tensor().unwrap().dtype(), DType::I64);
}
