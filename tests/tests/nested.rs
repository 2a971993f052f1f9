//! Regions of control flow whose types are static are programs in a program: printed, read back, and run as plans, from
//! machine code in an artifact as well.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;

use optc::{Compiler, FileAccess, Options, Program, Tensor, Val};
use optc_emit::{HostError, Regions, load};
use optc_ir::{Graph, HostCall, parse};
use optc_native::Artifact;
use optc_runtime::{Arena, Executor, Plan, PlanBody, ThreadPool};
use optc_testing::resolve;
use optc_types::{Callable, HostOp, HostText, OpError};

/// A branch in a branch, and a loop over rows; the other branch of the inner one has a shape that depends on data.
const TEXT: &str = r#"func @control(%c: tensor<bool>, %x: tensor<2x3xf32>) {
  %0 = cf.if %c, %c, %x : tensor<2x3xf32> region func @then(%c: tensor<bool>, %a: tensor<2x3xf32>) {
    %0 = cf.if %c, %a : tensor<2x3xf32> region func @inner(%b: tensor<2x3xf32>) {
      %0 = math.exp %b : tensor<2x3xf32>
      %1 = math.add %0, %b : tensor<2x3xf32>
      return %1 as "y"
    } region func @other(%b: tensor<2x3xf32>) {
      %0 = math.relu %b : tensor<2x3xf32>
      return %0 as "y"
    }
    %1 = math.mul %0, %a : tensor<2x3xf32>
    return %1 as "y"
  } region func @else(%c: tensor<bool>, %a: tensor<2x3xf32>) {
    %0 = math.neg %a : tensor<2x3xf32>
    return %0 as "y"
  }
  %1 = tensor.const {value = dense<[0.5, -1.0, 2.0]> : tensor<3xf32>} : tensor<3xf32>
  %2, %3 = cf.scan %1, %0 {input_axes = [0], input_reversed = [0], output_axes = [0], scanned = 1, states = 1}
      : tensor<3xf32>, tensor<2x3xf32> region func @row(%s: tensor<3xf32>, %e: tensor<3xf32>) {
    %0 = math.add %s, %e : tensor<3xf32>
    %1 = math.tanh %0 : tensor<3xf32>
    return %0 as "s", %1 as "y"
  }
  return %2 as "s", %3 as "y"
}"#;

fn graph() -> Graph {
    parse(TEXT).unwrap()
}

fn inputs(c: bool) -> [Val; 2] {
    let x = Tensor::from_slice(&[2, 3], &[0.5f32, -1.5, 2.0, -0.25, 1.0, 0.0]).unwrap();
    [Tensor::from_bools(&[], &[c]).unwrap().into(), x.into()]
}

fn program(options: Options) -> Program {
    Compiler::new(options).program(graph()).unwrap()
}

fn check(found: &[Val], expected: &[Val]) {
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.as_tensor().unwrap(), expected.as_tensor().unwrap());
        assert_eq!(found.shape(), expected.shape());
        for (f, e) in found.to_f64_vec().into_iter().zip(expected.to_f64_vec()) {
            assert!((f - e).abs() < 1e-5, "{f}, expected {e}");
        }
    }
}

/// What a region must not come to if its values have the types that it was compiled for.
#[derive(Debug)]
struct Never;

impl Callable for Never {
    fn call(&self, _: &[Val]) -> Result<Vec<Val>, OpError> {
        panic!("the region has a plan for these types")
    }
}

/// Makes ops whose regions all have plans.
fn compiled_only(host: &HostText, plans: &Regions) -> Result<Arc<dyn HostOp>, HostError> {
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let body = |number: usize, _| -> Arc<dyn Callable> {
        Arc::new(PlanBody::new(plans[&number].clone(), pool.clone(), Arc::new(Never)))
    };
    Ok(Arc::new(HostCall::parse(host, &body)?))
}

fn run(plan: Plan, c: bool) -> Vec<Val> {
    let pool = ThreadPool::new(1).unwrap();
    Executor::new(Arc::new(plan)).run(&inputs(c), &mut Arena::default(), &pool, None).unwrap()
}

#[test]
fn regions_with_static_types_are_programs() {
    let program = program(Options::default());
    assert_eq!(program.all().len(), 6, "{}", program.print().text);
    let printed = program.print();
    let read = Program::parse(&printed.text, &printed.constants.into_iter().collect()).unwrap();
    assert!(read == program, "its text is another program:\n{}", printed.text);
    for c in [true, false] {
        let expected = optc_ir::run(&graph(), &inputs(c)).unwrap();
        check(&run(load(&program, 2, &compiled_only).unwrap(), c), &expected);
        let hosts: Vec<_> = read.hosts.iter().map(|host| resolve(host, &Regions::new()).unwrap()).collect();
        check(&read.interpret(&inputs(c), &hosts).unwrap(), &expected);
    }
}

#[test]
fn machine_code_of_regions_is_in_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.optc");
    let native = Compiler::default().native(graph()).unwrap();
    let model = Compiler::new(Options { keep_graph: true, ..Options::default() }).compile_graph(graph()).unwrap();
    model.save_with(&path, std::slice::from_ref(&native)).unwrap();
    let artifact = Artifact::open(&path, FileAccess::Map).unwrap();
    let here = artifact.native_here(None).unwrap();
    assert_eq!(artifact.native_code(&here).unwrap(), native);
    for c in [true, false] {
        let expected = model.session().run_values(&inputs(c)).unwrap();
        // SAFETY: this test has made the code.
        let (plan, _) = unsafe { artifact.plan(&here, &compiled_only) }.unwrap();
        check(&run(plan, c), &expected);
        let trusting = Compiler::new(Options { trust: true, ..Options::default() }).load(&path).unwrap();
        check(&trusting.session().run_values(&inputs(c)).unwrap(), &expected);
    }
}

/// Values of other types than a region was compiled for go another way.
#[test]
fn values_of_other_types_do_without_the_program() {
    #[derive(Debug)]
    struct Echo;
    impl Callable for Echo {
        fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
            Ok(values.to_vec())
        }
    }
    let scan = program(Options::default()).bodies.pop().unwrap().program;
    let plan = load(&scan, 1, &resolve).unwrap();
    let body = PlanBody::new(Arc::new(plan), Arc::new(ThreadPool::new(1).unwrap()), Arc::new(Echo));
    let row = |n: usize| Val::from(Tensor::from_slice(&[n], &vec![0.25f32; n]).unwrap());
    let sum = Tensor::from_slice(&[3], &[0.5f32; 3]).unwrap();
    assert_eq!(body.call(&[row(3), row(3)]).unwrap()[0], sum.into());
    assert_eq!(body.call(&[row(4), row(4)]).unwrap(), [row(4), row(4)]);
    assert_eq!(body.call(&[row(3)]).unwrap(), [row(3)]);
}

#[test]
fn bodies_that_do_not_belong_are_refused() {
    let program = program(Options::default());
    let refused = |change: &dyn Fn(&mut Program)| {
        let mut changed = program.clone();
        change(&mut changed);
        changed.verify().unwrap_err().rule
    };
    assert_eq!(refused(&|p| p.bodies[0].host = 9), "P8");
    assert_eq!(refused(&|p| p.bodies[1].region = p.bodies[0].region), "P8");
    assert_eq!(refused(&|p| p.bodies[0].program.target.caches.l1 += 1), "P8");
    assert_eq!(refused(&|p| p.bodies[0].program.flow.buffers[0].bytes += 4), "P3");
    let text = program.print().text;
    let constants = program.print().constants.into_iter().collect();
    for (from, to) in [("body 1 of 0", "body 2 of 0"), ("body 1 of 0", "body 1 of 7"), ("region 0", "region x")] {
        assert!(Program::parse(&text.replacen(from, to, 1), &constants).is_err(), "{to}");
    }
}
