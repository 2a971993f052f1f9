//! The laws of the text form: what is printed parses back to the same graph, and bad text is refused with its place.

use optc_ir::{parse, parse_with, print, run, verify};
use optc_tensor::Tensor;

const SAMPLE: &str = r#"func @main(%image: tensor<1x1x4x4xf32>, %"a:b": tensor<Nx?xi64>) {
  %0 = tensor.const {value = dense<[0.5, -1.0, 2.0, 1e-10]> : tensor<1x1x2x2xf32>} : tensor<1x1x2x2xf32>
  %1 = nn.conv %image, %0, _ {strides = [2, 2]} : tensor<1x1x2x2xf32> loc("conv1", "it's \"quoted\"")
  %2 = math.relu %1 : tensor<1x1x2x2xf32>
  %3, %4 = tensor.split %2 {axis = 3, sizes = [1, 1]} : tensor<1x1x2x1xf32>, tensor<1x1x2x1xf32>
  %5 = math.leaky_relu %3 {alpha = 0.25} : tensor<1x1x2x1xf32>
  return %5 as "y", %4 as "z:0"
}
"#;

#[test]
fn printed_text_parses_back_to_itself() {
    let graph = parse(SAMPLE).unwrap();
    assert_eq!(verify(&graph), []);
    assert_eq!(print(&graph).text, SAMPLE);
}

/// Exporters call inputs `0` or `1`, which are numbers of results as well.
#[test]
fn inputs_called_by_numbers_keep_them() {
    let text = r#"func @main(%"1": tensor<2xf32>, %"2": tensor<2xf32>) {
  %0 = math.add %"1", %"2" : tensor<2xf32>
  %3 = math.relu %0 : tensor<2xf32>
  return %3 as "y"
}
"#;
    let graph = parse(text).unwrap();
    assert_eq!(verify(&graph), []);
    assert_eq!(print(&graph).text, text);
}

#[test]
fn extents_fit_signed_positions() {
    let concat = |extent: u64| {
        let x = format!("tensor<{extent}xi8>");
        parse(&format!(
            "func @f(%x: {x}) {{ %0 = tensor.concat %x, %x {{axis = 0}} : tensor<?xi8> return %0 as \"y\" }}"
        ))
    };
    let most = i64::MAX as u64;
    assert!(concat(most + 1).unwrap_err().to_string().contains("too large"));
    let error = optc_ir::infer_types(&mut concat(most).unwrap()).unwrap_err();
    assert!(error.to_string().contains("is too large"), "{error}");
    optc_ir::infer_types(&mut concat(most / 2).unwrap()).unwrap();
}

/// A graph that returns a constant: `VALUE : TYPE`, where a symbol's type stands after the op alone.
fn constant(typed: &str) -> String {
    let (value, ty) = typed.split_once(" : ").unwrap_or_default();
    let value = if value.starts_with('@') { value } else { typed };
    format!("func @f() {{ %0 = tensor.const {{value = {value}}} : {ty} return %0 as \"y\" }}")
}

#[test]
fn large_constants_stand_beside_the_text() {
    let values: Vec<f32> = (0..20).map(|i| i as f32).collect();
    let graph = parse(&constant(&format!("dense<{values:?}> : tensor<20xf32>"))).unwrap();
    let printed = print(&graph);
    assert!(printed.text.contains("@c0 #") && !printed.text.contains("dense"));
    assert!(parse(&printed.text).unwrap_err().message.contains("no constant `@c0`"));
    let again = parse_with(&printed.text, &printed.constants.iter().cloned().collect()).unwrap();
    assert_eq!(print(&again), printed);
}

#[test]
fn a_symbol_names_its_contents() {
    let text = constant("@c0 #a505df1b : tensor<1xu8>");
    let beside = |value: u8| [("c0".to_owned(), Tensor::from_slice(&[1], &[value]).unwrap())].into();
    assert!(parse_with(&text, &beside(1)).is_ok());
    let error = parse_with(&text, &beside(2)).unwrap_err().message;
    assert_eq!(error, "the data of `@c0` has the hash 3c0c8ea1, the text says a505df1b");
    assert!(parse_with(&text.replace("#a505df1b", ""), &beside(2)).is_ok(), "a text may leave the hash out");
}

#[test]
fn constants_of_equal_elements_print_one() {
    for (long, short) in [
        ("dense<[0.5, 0.5]> : tensor<2xf32>", "dense<0.5> : tensor<2xf32>"),
        ("dense<[-7, -7, -7]> : tensor<3xi64>", "dense<-7> : tensor<3xi64>"),
        ("dense<1> : tensor<256x256xi8>", "dense<1> : tensor<256x256xi8>"),
    ] {
        assert!(print(&parse(&constant(long)).unwrap()).text.contains(short), "{long}");
    }
    for apart in ["dense<[0.0, -0.0]> : tensor<2xf32>", "dense<[1]> : tensor<1xi32>", "dense<[]> : tensor<0xf32>"] {
        assert!(print(&parse(&constant(apart)).unwrap()).text.contains(apart), "{apart}");
    }
    // A short text makes no tensor of any size, and what it cannot say comes beside it.
    assert!(parse(&constant("dense<0.0> : tensor<65537xf32>")).is_err());
    let large = Tensor::from_slice(&[65537], &[0f32; 65537]).unwrap();
    let beside = [("c".to_owned(), large)].into();
    assert_eq!(print(&parse_with(&constant("@c : tensor<65537xf32>"), &beside).unwrap()).constants.len(), 1);
}

#[test]
fn errors_name_the_place() {
    for (text, line, message) in [
        ("func @f() {\n  %0 = math.nope %x : tensor<f32>\n}", 2, "not defined"),
        ("func @f(%x: tensor<f32>) {\n  %0 = math.nope %x : tensor<f32>\n  return %0\n}", 2, "no op"),
        ("func @f(%x: tensor<3yf32>) {}", 1, "expected `x`"),
        ("func @f(%x: tensor<f32>) {\n %0 = math.relu %x {a = 1} : tensor<f32> return %0 }", 2, "not an attribute"),
        ("func @f(%x: tensor<f32>, %x: tensor<f32>) { return %x }", 1, "defined twice"),
        ("", 1, "expected `func`"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn truncated_and_damaged_texts_never_panic() {
    for end in 0..SAMPLE.len() {
        if SAMPLE.is_char_boundary(end) {
            assert!(parse(&SAMPLE[..end]).is_err() || end + 1 >= SAMPLE.len());
        }
    }
    for at in 0..SAMPLE.len() {
        for byte in ["\"", "{", "9", "%", "\\"] {
            let mut text = SAMPLE.to_owned();
            text.replace_range(at..at + 1, byte);
            let _ = parse(&text).map(|g| verify(&g));
        }
    }
    assert!(parse(&"seq<".repeat(100_000)).is_err());
    assert!(parse(&format!("func @f(%x: {}", "seq<".repeat(100_000))).is_err());
}

#[test]
fn the_verifier_lists_every_failure() {
    let graph = parse(
        "func @f(%a: tensor<2x3xf32>, %b: tensor<2x3xf32>) {
           %0 = math.matmul %a, %b : tensor<2x3xf32>
           %1 = math.add %a, %b : tensor<3x3xf32>
           return %0 as \"y\", %1 as \"y\"
         }",
    )
    .unwrap();
    let rules: Vec<_> = verify(&graph).iter().map(|f| f.rule).collect();
    assert_eq!(rules, ["V5", "V3", "V4"]);
}

#[test]
fn the_interpreter_runs_a_convolution() {
    let graph = parse(SAMPLE).unwrap();
    let image: Vec<f32> = (0..16).map(|v| v as f32).collect();
    let image = Tensor::from_slice(&[1, 1, 4, 4], &image).unwrap();
    let unused = Tensor::from_slice(&[1, 1], &[7i64]).unwrap();
    let out = run(&graph, &[image.clone().into(), unused.into()]).unwrap();
    // 0.5·x₀₀ − x₀₁ + 2·x₁₀ + 1e-10·x₁₁ at each window.
    assert_eq!(out[1].as_tensor().unwrap().as_slice::<f32>().unwrap(), [10.0, 22.0]);
    assert_eq!(out[0].as_tensor().unwrap().as_slice::<f32>().unwrap(), [7.0, 19.0]);
    let error = run(&graph, &[image.clone().into(), image.into()]).unwrap_err();
    assert!(error.to_string().contains("input `a:b`"), "{error}");
}
