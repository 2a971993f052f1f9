//! Graphs of one op or a few through lowering, machine code and the executor, against the interpreter; and whether they
//! became kernels.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_ir::{Graph, Val, Verified, infer_types, parse};
use optc_kernel::program::Decision;
use optc_kernel::target::Isa;
use optc_lower::{LowerOptions, lower};
use optc_runtime::ThreadPool;
use optc_tensor::{DType, Tensor};
use optc_testing::{isas, loaded, random_floats, run_guarded};
use optc_types::ReasonCode;

fn input(dtype: DType, shape: &[usize], seed: u64) -> Val {
    let n = shape.iter().product();
    let floats = random_floats(n, seed);
    let tensor = match dtype {
        DType::F32 => Tensor::from_slice(shape, &floats.iter().map(|x| x * 3.0).collect::<Vec<_>>()),
        DType::Bool => Tensor::from_bools(shape, &floats.iter().map(|x| *x > 0.0).collect::<Vec<_>>()),
        _ => Tensor::from_i64(dtype, shape, &floats.iter().map(|x| (x * 100.0) as i64).collect::<Vec<_>>()),
    };
    tensor.unwrap().into()
}

/// Runs a graph both ways on random operands; `kernels` says how many nodes must have become kernels, the others being
/// views.
fn check(text: &str, kernels: usize) {
    let mut graph = parse(text).unwrap();
    infer_types(&mut graph).unwrap();
    let inputs: Vec<Val> = (1..)
        .zip(graph.inputs())
        .map(|(i, v)| {
            let ty = graph.ty(v).as_tensor().unwrap();
            input(ty.dtype, &ty.static_shape().unwrap(), i)
        })
        .collect();
    run_both(text, &inputs, kernels);
}

fn run_both(text: &str, inputs: &[Val], kernels: usize) {
    let mut graph = parse(text).unwrap();
    infer_types(&mut graph).unwrap();
    let want = optc_ir::run(&graph, inputs).unwrap();
    for isa in isas() {
        run_on(isa, text, graph.clone(), (inputs, &want), kernels);
    }
}

fn run_on(isa: &'static Isa, text: &str, graph: Graph, (inputs, want): (&[Val], &[Val]), kernels: usize) {
    let compiled =
        lower(Verified::new(graph).unwrap(), &optc_emit::host::target().with_isa(isa), LowerOptions::default())
            .unwrap();
    let count = |f: fn(&Decision) -> bool| compiled.report.iter().filter(|r| f(&r.decision)).count();
    assert_eq!(count(|d| matches!(d, Decision::Host { .. })), 0, "{text}\n{:?}", compiled.report);
    assert_eq!(count(|d| matches!(d, Decision::Kernel { .. })), kernels, "{text}\n{:?}", compiled.report);
    let name = format!("{} on {}", text.split_whitespace().collect::<Vec<_>>().join(" "), isa.name);
    let found = run_guarded(&loaded(&compiled).unwrap(), inputs, &ThreadPool::new(2).unwrap(), &name).unwrap();
    for (found, want) in found.iter().zip(want) {
        let (found, want) = (found.as_tensor().unwrap(), want.as_tensor().unwrap());
        assert_eq!((found.dtype(), found.shape()), (want.dtype(), want.shape()), "{text}");
        for (i, (f, w)) in found.to_f64_vec().into_iter().zip(want.to_f64_vec()).enumerate() {
            let close = f == w || (f.is_nan() && w.is_nan()) || (f - w).abs() <= 1e-5 * (1.0 + w.abs());
            assert!(close, "{text}\nelement {i} is {f}, expected {w}");
        }
    }
}

/// One op of operands of these types.
fn op(call: &str, operands: &[&str], result: &str) {
    let names = ["%a", "%b", "%c", "%d"];
    let params: Vec<_> = names.iter().zip(operands).map(|(n, ty)| format!("{n}: tensor<{ty}>")).collect();
    check(&format!("func @f({}) {{ %0 = {call} : tensor<{result}> return %0 as \"y\" }}", params.join(", ")), 1);
}

#[test]
fn functions_of_one_float() {
    let functions = [
        "abs",
        "neg",
        "exp",
        "erf",
        "tanh",
        "sigmoid",
        "relu",
        "floor",
        "ceil",
        "round",
        "sign",
        "sin",
        "cos",
        "softplus",
        "softsign",
        "hard_swish",
        "mish",
        "leaky_relu",
        "elu",
        "hard_sigmoid",
        "reciprocal",
    ];
    for name in functions {
        op(&format!("math.{name} %a"), &["3x7xf32"], "3x7xf32");
    }
    for name in
        ["selu", "celu {alpha = 0.5}", "gelu", "gelu {approximate = true}", "swish {alpha = 2.0}", "thresholded_relu"]
    {
        let (name, attrs) = name.split_once(' ').unwrap_or((name, ""));
        op(&format!("math.{name} %a {attrs}"), &["3x7xf32"], "3x7xf32");
    }
    op("math.is_nan %a", &["5xf32"], "5xbool");
    op("math.prelu %a, %b", &["4x3x5xf32", "3x1xf32"], "4x3x5xf32");
    for name in ["log", "sqrt"] {
        check(
            &format!(
                "func @f(%a: tensor<9xf32>) {{ %0 = math.abs %a : tensor<9xf32> \
                 %1 = math.{name} %0 : tensor<9xf32> return %1 as \"y\" }}"
            ),
            2,
        );
    }
}

#[test]
fn operations_on_numbers_of_all_shapes() {
    for name in ["add", "sub", "mul", "div", "min", "max"] {
        op(&format!("math.{name} %a, %b"), &["2x3x5xf32", "3x1xf32"], "2x3x5xf32");
        op(&format!("math.{name} %a, %b"), &["1x5xf32", "3x1xf32"], "3x5xf32");
    }
    for name in ["add", "sub", "mul", "min", "max"] {
        op(&format!("math.{name} %a, %b"), &["2x3xi32", "3xi32"], "2x3xi32");
    }
    op("math.clip %a, %b, %c", &["7xf32", "f32", "f32"], "7xf32");
    op("math.clip %a, %b", &["7xf32", "f32"], "7xf32");
    op("math.add %a, %b", &["f32", "f32"], "f32");
    op("math.add %a, %b", &["0x3xf32", "3xf32"], "0x3xf32");
}

#[test]
fn comparisons_choices_and_casts() {
    for name in ["equal", "less", "greater", "less_equal", "greater_equal"] {
        for ty in ["f32", "i32", "u8", "i8", "i64"] {
            op(&format!("math.{name} %a, %b"), &[&format!("5x3x{ty}"), &format!("3x{ty}")], "5x3xbool");
        }
    }
    for name in ["and", "or", "xor", "equal"] {
        op(&format!("math.{name} %a, %b"), &["5x3xbool", "3xbool"], "5x3xbool");
    }
    op("math.not %a", &["7xbool"], "7xbool");
    for ty in ["f32", "i32", "u8", "bool"] {
        op("math.where %a, %b, %c", &["4x1xbool", &format!("5x{ty}"), &format!("4x5x{ty}")], &format!("4x5x{ty}"));
    }
    for (from, to) in [
        ("f32", "i32"),
        ("f32", "u8"),
        ("f32", "i8"),
        ("f32", "bool"),
        ("bool", "f32"),
        ("bool", "i64"),
        ("i32", "f32"),
        ("u8", "f32"),
        ("i8", "f32"),
        ("i8", "i64"),
        ("i64", "i32"),
        ("i32", "bool"),
        ("i32", "i8"),
        ("i64", "u8"),
        ("i64", "f32"),
        ("i64", "bool"),
    ] {
        op(&format!("math.cast %a {{to = {to}}}"), &[&format!("3x5x{from}")], &format!("3x5x{to}"));
    }
}

#[test]
fn wide_integers_are_compared_and_converted_by_both_halves() {
    let numbers = [0, 1, -1, 5, -7, 1 << 31, -(1 << 31), 1 << 32, (1 << 40) + 3, -(1 << 50), i64::MAX, i64::MIN];
    let values = |turn: usize| {
        let all: Vec<i64> = (0..144).map(|i| numbers[if turn == 0 { i / 12 } else { i % 12 }]).collect();
        Val::from(Tensor::from_i64(DType::I64, &[144], &all).unwrap())
    };
    for op in ["equal", "less", "greater", "less_equal", "greater_equal"] {
        run_both(
            &format!(
                "func @f(%a: tensor<144xi64>, %b: tensor<144xi64>) {{ \
                 %0 = math.{op} %a, %b : tensor<144xbool> return %0 as \"y\" }}"
            ),
            &[values(0), values(1)],
            1,
        );
    }
    for to in ["f32", "bool", "i32", "u8"] {
        run_both(
            &format!(
                "func @f(%a: tensor<144xi64>) {{ \
                 %0 = math.cast %a {{to = {to}}} : tensor<144x{to}> return %0 as \"y\" }}"
            ),
            &[values(0)],
            1,
        );
    }
    check(
        "func @f(%a: tensor<4x9xf32>, %m: tensor<9xi64>) {
           %1 = kernel.fused %a, %m : tensor<4x9xf32> region
             func @fused(%p0: tensor<4x9xf32>, %p1: tensor<9xi64>) {
             %0 = math.cast %p1 {to = f32} : tensor<9xf32>
             %1 = math.mul %p0, %0 : tensor<4x9xf32>
             return %1 as \"y\" }
           return %1 as \"y\" }",
        1,
    );
}

#[test]
fn an_operand_that_is_read_again_is_not_overwritten() {
    check(
        "func @f(%a: tensor<4x4xf32>) {
           %0 = math.relu %a : tensor<4x4xf32>
           %1 = tensor.transpose %0 {perm = [1, 0]} : tensor<4x4xf32>
           %2 = math.sub %0, %1 : tensor<4x4xf32>
           %3 = math.mul %2, %2 : tensor<4x4xf32>
           return %3 as \"y\" }",
        3,
    );
}

#[test]
fn movement() {
    for ty in ["f32", "i64", "bool", "u8", "i32"] {
        let t = |shape: &str| format!("{shape}x{ty}");
        op("tensor.concat %a, %b, %c {axis = 1}", &[&t("2x3"), &t("2x1"), &t("2x6")], &t("2x10"));
        op("tensor.concat %a, %b {axis = -2}", &[&t("2x3"), &t("5x3")], &t("7x3"));
        op("tensor.pad %a {pads = [0, 1, 2, 0, 0, 3]}", &[&t("2x3x5")], &t("2x4x10"));
        op("tensor.pad %a {pads = [0, -1, 2, 1]}", &[&t("4x5")], &t("6x5"));
        check(
            &format!(
                "func @f(%a: tensor<3x5x2x{ty}>, %b: tensor<2x5x4x{ty}>) {{
               %0 = tensor.transpose %a {{perm = [2, 1, 0]}} : tensor<2x5x3x{ty}>
               %1 = tensor.concat %0, %b {{axis = 2}} : tensor<2x5x7x{ty}>
               return %1 as \"y\" }}"
            ),
            1,
        );
    }
    for (indices, shape) in
        [("[1]> : tensor<i64>", "2x5"), ("[-2]> : tensor<1xi64>", "2x1x5"), ("[0, 2]> : tensor<2xi64>", "2x2x5")]
    {
        let ty = indices.split_once(": ").unwrap().1;
        check(
            &format!(
                "func @f(%a: tensor<2x3x5xf32>) {{
               %0 = tensor.const {{value = dense<{indices}}} : {ty}
               %1 = tensor.gather %a, %0 {{axis = 1}} : tensor<{shape}xf32>
               %2 = math.relu %1 : tensor<{shape}xf32>
               return %2 as \"y\" }}"
            ),
            1,
        );
    }
    check(
        "func @f(%a: tensor<2x3xf32>) {
           %0 = tensor.const {value = dense<[2.5]> : tensor<f32>} : tensor<f32>
           %1 = tensor.pad %a, %0 {pads = [0, 1, 2, 0]} : tensor<4x4xf32>
           return %1 as \"y\" }",
        1,
    );
    check(
        "func @f(%a: tensor<1x6x4x4xf32>) {
           %0 = kernel.convert_layout %a : tensor<1x6x4x4xf32, nhwc>
           %1 = math.relu %0 : tensor<1x6x4x4xf32, nhwc>
           %2 = kernel.convert_layout %1 : tensor<1x6x4x4xf32>
           return %2 as \"y\" }",
        3,
    );
}

#[test]
fn reductions() {
    for kind in ["sum", "mean", "max", "min", "prod", "sum_square", "l1", "l2", "log_sum_exp"] {
        op(&format!("math.reduce %a {{axes = [-1], kind = \"{kind}\"}}"), &["2x3x9xf32"], "2x3x1xf32");
        op(&format!("math.reduce %a {{axes = [0, 2], keep_dims = false, kind = \"{kind}\"}}"), &["2x7x3xf32"], "7xf32");
        op(&format!("math.reduce %a {{keep_dims = false, kind = \"{kind}\"}}"), &["2x3xf32"], "f32");
    }
    check(
        "func @f(%a: tensor<1x6x4x4xf32>) {
           %0 = kernel.convert_layout %a : tensor<1x6x4x4xf32, nhwc>
           %1 = math.reduce %0 {axes = [2, 3], kind = \"mean\"} : tensor<1x6x1x1xf32>
           return %1 as \"y\" }",
        2,
    );
}

#[test]
fn softmax_and_normalisations() {
    for axis in [-1, 1, 0] {
        op(&format!("nn.softmax %a {{axis = {axis}}}"), &["3x5x7xf32"], "3x5x7xf32");
        op(&format!("nn.softmax %a {{axis = {axis}, log = true}}"), &["3x5x7xf32"], "3x5x7xf32");
        op(&format!("nn.lp_norm %a {{axis = {axis}, p = 1}}"), &["3x5x7xf32"], "3x5x7xf32");
        op(&format!("nn.lp_norm %a {{axis = {axis}}}"), &["3x5x7xf32"], "3x5x7xf32");
    }
    op("nn.layer_norm %a, %b, %c", &["4x3x9xf32", "9xf32", "9xf32"], "4x3x9xf32");
    op("nn.layer_norm %a, %b {axis = 1}", &["4x3x9xf32", "3x9xf32"], "4x3x9xf32");
    op("nn.rms_norm %a, %b", &["4x3x9xf32", "9xf32"], "4x3x9xf32");
    op("nn.group_norm %a, %b, %c {groups = 2}", &["2x6x3x5xf32", "6xf32", "6xf32"], "2x6x3x5xf32");
    op("nn.group_norm %a, %b, %c", &["2x6x17xf32", "6xf32", "6xf32"], "2x6x17xf32");
    check(
        "func @f(%a: tensor<2x6x4x4xf32>, %s: tensor<6xf32>, %b: tensor<6xf32>) {
           %0 = kernel.convert_layout %a : tensor<2x6x4x4xf32, nhwc>
           %1 = nn.group_norm %0, %s, %b {groups = 3} : tensor<2x6x4x4xf32, nhwc>
           %2 = kernel.convert_layout %1 : tensor<2x6x4x4xf32>
           return %2 as \"y\" }",
        3,
    );
    check(
        "func @f(%a: tensor<2x3x4xf32>, %s: tensor<3xf32>, %v: tensor<3xf32>) {
           %0 = math.mul %v, %v : tensor<3xf32>
           %1 = nn.batch_norm %a, %s, %s, %s, %0 : tensor<2x3x4xf32>
           return %1 as \"y\" }",
        2,
    );
}

#[test]
fn expressions_behind_folds() {
    check(
        "func @f(%a: tensor<4x9xf32>, %r: tensor<4x9xf32>) {
           %0 = math.relu %a : tensor<4x9xf32>
           %1 = kernel.fused %0, %r : tensor<4x9xf32> region
             func @fused(%p0: tensor<4x9xf32>, %p1: tensor<4x9xf32>) {
             %0 = nn.softmax %p0 : tensor<4x9xf32>
             %1 = math.add %0, %p1 : tensor<4x9xf32>
             %2 = math.mul %1, %p0 : tensor<4x9xf32>
             return %2 as \"y\" }
           return %1 as \"y\" }",
        2,
    );
    check(
        "func @f(%a: tensor<4x9xf32>, %r: tensor<4xf32>) {
           %1 = kernel.fused %a, %r : tensor<4xf32> region
             func @fused(%p0: tensor<4x9xf32>, %p1: tensor<4xf32>) {
             %0 = math.reduce %p0 {axes = [1], keep_dims = false, kind = \"mean\"} : tensor<4xf32>
             %1 = math.sub %0, %p1 : tensor<4xf32>
             %2 = math.mul %1, %1 : tensor<4xf32>
             return %2 as \"y\" }
           return %1 as \"y\" }",
        1,
    );
    check(
        "func @f(%a: tensor<4x9xf32>, %b: tensor<9xf32>, %m: tensor<4x1xbool>) {
           %1 = kernel.fused %a, %b, %m : tensor<4x9xf32> region
             func @fused(%p0: tensor<4x9xf32>, %p1: tensor<9xf32>, %p2: tensor<4x1xbool>) {
             %0 = math.less %p0, %p1 : tensor<4x9xbool>
             %1 = math.and %0, %p2 : tensor<4x9xbool>
             %2 = math.where %1, %p0, %p1 : tensor<4x9xf32>
             %3 = math.cast %p2 {to = f32} : tensor<4x1xf32>
             %4 = math.add %2, %3 : tensor<4x9xf32>
             return %4 as \"y\" }
           return %1 as \"y\" }",
        1,
    );
}

#[test]
fn concatenations_of_many_operands_are_joined_in_parts() {
    let mut extents: Vec<usize> = (0..150).map(|i| i % 4).collect();
    extents[63..65].fill(0); // around the end of a part
    let params: Vec<String> = extents.iter().enumerate().map(|(i, n)| format!("%x{i}: tensor<3x{n}x2xf32>")).collect();
    let names: Vec<String> = (0..extents.len()).map(|i| format!("%x{i}")).collect();
    let (params, names, sum) = (params.join(", "), names.join(", "), extents.iter().sum::<usize>());
    let join = format!("tensor.concat {names} {{axis = 1}} : tensor<3x{sum}x2xf32>");
    check(&format!("func @f({params}) {{ %0 = {join} return %0 as \"y\" }}"), 1);
}

#[test]
fn axes_of_many_elements_are_not_looked_through() {
    let x = "tensor<100000000xf32>";
    let text = format!(
        "func @f(%x: {x}) {{
        %by = tensor.const {{value = dense<[5, 5]> : tensor<2xi64>}} : tensor<2xi64>
        %0 = tensor.pad %x, _, %by {{mode = \"reflect\"}} : tensor<100000010xf32>
        return %0 as \"y\" }}"
    );
    let compiled =
        lower(Verified::new(parse(&text).unwrap()).unwrap(), &optc_emit::host::target(), LowerOptions::default())
            .unwrap();
    let Decision::Host { reason } = &compiled.report[0].decision else { panic!("{:?}", compiled.report) };
    assert_eq!(reason.code, ReasonCode::Shape);
    assert_eq!(reason.sentence, "an axis of 100000010 elements is not mapped, expected at most 4194304");
}

/// Why the one op of a graph has no kernel.
fn declined(params: &str, op: &str) -> ReasonCode {
    let graph = parse(&format!("func @f({params}) {{ {op} return %0 as \"y\" }}")).unwrap();
    let program = lower(Verified::new(graph).unwrap(), &optc_emit::host::target(), LowerOptions::default()).unwrap();
    let Some(Decision::Host { reason }) = program.report.last().map(|r| &r.decision) else {
        panic!("{op}: {:?}", program.report)
    };
    reason.code
}

#[test]
fn what_runs_on_the_host_says_why() {
    let x = "%x: tensor<4xf32>";
    assert_eq!(declined("%x: tensor<2x2xf32>", "%0 = math.det %x : tensor<f32>"), ReasonCode::NoKernel);
    assert_eq!(declined("%x: tensor<4xf64>", "%0 = math.exp %x : tensor<4xf64>"), ReasonCode::Numbers);
    assert_eq!(declined("%x: tensor<4xi64>", "%0 = math.add %x, %x : tensor<4xi64>"), ReasonCode::Numbers);
    assert_eq!(declined(x, "%0 = math.pow %x, %x : tensor<4xf32>"), ReasonCode::NotConstant);
    assert_eq!(declined("%x: tensor<4xbool>", "%0 = tensor.non_zero %x : tensor<1x?xi64>"), ReasonCode::OpenShape);
    let range = "%0 = quant.fake_quant %x {axis = 0, high = [1.0, 1.0, 1.0, 1.0], low = [0.0, 0.0, 0.0, 0.0], to = u8} \
        : tensor<4xf32>";
    assert_eq!(declined(x, range), ReasonCode::Attribute);
    assert_eq!(declined("%x: tensor<0x4xf32>", "%0 = nn.softmax %x {axis = 1} : tensor<0x4xf32>"), ReasonCode::Empty);
}
