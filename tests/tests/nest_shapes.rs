//! Kernels of every kind give what the interpreter gives, over shapes, on every instruction set of the machine; every
//! other case takes any of the options at each choice point, as tuning may.
//!
//! For sets that the machine lacks, cases are lowered all the way to machine code. Buffers lie between inaccessible
//! pages: an access outside of them ends the process, with the case.
//!
//! `OPTC_SHAPES` sets how many cases are tried (5,000 without it), `OPTC_FIRST` the seed of the first: the kinds take
//! turns, and for each the instruction sets. A failure names the seed and the instruction set, and prints the graph.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use optc_ir::{Graph, Val, Verified, print};
use optc_kernel::program::{Decision, Point, Program};
use optc_kernel::target::{ISAS, Isa};
use optc_lower::{LowerError, LowerOptions, Tuning, lower};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_runtime::ThreadPool;
use optc_tensor::{DType, Difference, Random};
use optc_testing::{isas, loaded, run_guarded};
use optc_tests::TestFailure;
use optc_tests::nest_shapes::{Case, KINDS, NestKind, case};

/// Largest error of a float, relative to the range of the whole output.
const FLOAT: f64 = 1e-4;

/// The same for a bfloat16: what is next to a tie may be rounded either way.
const HALF: f64 = 1.0 / 128.0;

/// For a kind on an instruction set: how many cases it had, how many of them ran in kernels of that kind, and for how
/// many of the others the report says what the kernels decline.
type Counts = BTreeMap<(&'static str, &'static str), [usize; 3]>;

/// Whether a case ran in the kernels that it is made for.
#[derive(Clone, Copy)]
enum Ran {
    OfKind,
    /// What the kernels of the kind decline is in the report.
    Declined,
    Elsewhere,
}

/// The graph of a case, ready to be lowered.
fn prepared(case: &Case) -> Result<Graph, TestFailure> {
    let mut graph: Graph = case.graph.clone();
    if !case.passes.is_empty() {
        let pipeline = Pipeline::parse(case.passes)?;
        PassManager::new(PassOptions::default()).run(&pipeline, &mut graph)?;
    }
    Ok(graph)
}

/// Lowers a case for an instruction set that the machine need not have.
fn compile(graph: Graph, isa: &'static Isa, tuning: Tuning) -> Result<Program, LowerError> {
    let target = optc_emit::host::target().with_isa(isa);
    let graph = Verified::new(graph).expect("the passes leave a sound graph");
    lower(graph, &target, LowerOptions { tuning, ..LowerOptions::default() })
}

/// Lowers a case for an instruction set that the machine lacks: no machine code is made.
fn lowers(case: &Case, isa: &'static Isa) -> Result<(), TestFailure> {
    let program = compile(prepared(case)?, isa, Tuning::default())?;
    program.verify()?;
    reads_back(&program)
}

/// That the program's text, read back, is the program.
fn reads_back(program: &Program) -> Result<(), TestFailure> {
    let printed = program.print();
    let read = Program::parse(&printed.text, &printed.constants.into_iter().collect());
    match read.map_err(|e| format!("its text: {e}"))? == *program {
        true => Ok(()),
        false => Err("its text, read back, is another program".into()),
    }
}

/// What a case gives on an instruction set; with whether a kernel of the kind took part.
fn outcome(kind: &NestKind, case: &Case, seed: u64, isa: &'static Isa) -> Result<(Vec<Val>, Ran), TestFailure> {
    let graph = prepared(case)?;
    let mut compiled = compile(graph.clone(), isa, Tuning::default())?;
    if seed / KINDS.len() as u64 % 4 >= 2 && !compiled.points.is_empty() {
        let mut random = Random::new(seed);
        let any = |p: &Point| (p.key.clone(), p.options[random.below(p.options.len())].clone());
        compiled = compile(graph, isa, Tuning(compiled.points.iter().map(any).collect()))?;
    }
    let of_kind = compiled.report.iter().any(|r| match &r.decision {
        Decision::Kernel { names } => names.iter().any(|n| kind.kernels.iter().any(|k| n.contains(k))),
        Decision::View => kind.kernels.contains(&"view"),
        Decision::Host { .. } => false,
    });
    let declined = kind.name == "separable" && compiled.report.iter().any(|r| r.apart.is_some());
    let ran = match (of_kind, declined) {
        (true, _) => Ran::OfKind,
        (false, true) => Ran::Declined,
        (false, false) => Ran::Elsewhere,
    };
    let pool = ThreadPool::new(case.threads)?;
    reads_back(&compiled)?;
    let plan = loaded(&compiled)?;
    let name = format!("{}, seed {seed}, {} after `{}`", kind.name, isa.name, case.passes);
    let found = run_guarded(&plan, &case.inputs, &pool, &name)?;
    Ok((found, ran))
}

/// How a result differs from the interpreter's.
fn difference(found: &Val, expected: &Val) -> Option<String> {
    let (Val::Tensor(a), Val::Tensor(b)) = (found, expected) else { return Some("no tensor".to_owned()) };
    let tolerance = match b.dtype() {
        DType::F32 => FLOAT,
        DType::BF16 => HALF,
        _ => 0.0,
    };
    let Some(exact) = Difference::between(a, b, 0.0, 0.0) else { return Some(format!("found {a:?}, expected {b:?}")) };
    let d = Difference::between(a, b, tolerance, tolerance * exact.range.max(1.0))?;
    (!d.within_tolerance()).then(|| format!("off by {:.3e} of {:.3e}", d.max_abs, exact.range))
}

/// What a case gets wrong on an instruction set.
fn failure(kind: &NestKind, case: &Case, seed: u64, isa: &'static Isa, counts: &Mutex<Counts>) -> Option<String> {
    let expected = optc_ir::run(&case.graph, &case.inputs).unwrap();
    let (found, ran) = match outcome(kind, case, seed, isa) {
        Ok(found) => found,
        Err(e) => return Some(e.to_string()),
    };
    let mut counts = counts.lock().unwrap();
    let [all, of_kind, declined] = counts.entry((kind.name, isa.name)).or_default();
    *all += 1;
    *of_kind += usize::from(matches!(ran, Ran::OfKind));
    *declined += usize::from(matches!(ran, Ran::Declined));
    drop(counts);
    found.iter().zip(&expected).find_map(|(a, b)| difference(a, b))
}

#[test]
fn kernels_of_every_kind_hold_over_shapes() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (cases, first) = (number("OPTC_SHAPES", 5000), number("OPTC_FIRST", 0));
    let isas = isas();
    let missing: Vec<&Isa> = ISAS.iter().filter(|isa| !optc_emit::host::has(isa)).collect();
    let (next, failures, counts) = (AtomicU64::new(first), Mutex::new(vec![]), Mutex::new(Counts::new()));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&seed| seed < first + cases) {
            let kind = &KINDS[seed as usize % KINDS.len()];
            let isa = isas[seed as usize / KINDS.len() % isas.len()];
            let case = case(kind, seed);
            if let Some(isa) = missing.get(seed as usize / KINDS.len() % missing.len().max(1)) {
                lowers(&case, isa).unwrap_or_else(|e| panic!("{}, seed {seed}, {}: {e}", kind.name, isa.name));
            }
            if let Some(how) = failure(kind, &case, seed, isa, &counts) {
                let graph = print(&case.graph).text;
                let text = format!("{}, seed {seed}, {} after `{}`: {how}\n{graph}", kind.name, isa.name, case.passes);
                failures.lock().unwrap().push((seed, text));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let some = failures.iter().take(5).map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {cases} cases fail; the first:\n{some}", failures.len());
    // The cases are what they say: most that the kernels of a kind do not decline run in them. (Products in bfloat16
    // have some of these on the host.) How many channels are whole panels, and how many windows lie in no padding,
    // depends on the instruction set and the seeds.
    let counts = counts.into_inner().unwrap();
    println!("cases, kernels of the kind, declined: {counts:?}");
    if cases >= 1000 {
        for kind in KINDS {
            let of = counts.iter().filter(|((name, _), _)| *name == kind.name);
            let [all, of_kind, declined] = of.fold([0; 3], |sum, (_, n)| [0, 1, 2].map(|i| sum[i] + n[i]));
            let enough = of_kind * 10 >= (all - declined) * 7 && of_kind * 5 >= all;
            assert!(enough, "{}: {of_kind} of {all} cases ran in its kernels, {declined} were declined", kind.name);
        }
        for ((name, isa), [all, of_kind, _]) in counts {
            assert!(all < 20 || of_kind > 0, "{name}: none of {all} cases ran in its kernels on {isa}");
        }
    }
}
