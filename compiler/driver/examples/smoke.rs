//! Local smoke test (not committed).
use optc::{Compiler, Decision, Options, Timings};
use optc_tensor::{Difference, npy};
use std::path::Path;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let t = Instant::now();
    let threads = std::env::var("T").ok().and_then(|t| t.parse().ok()).unwrap_or(1);
    let model =
        Compiler::new(Options { threads, passes: std::env::var("P").unwrap_or("O2".into()), ..Options::default() })
            .compile_file(Path::new(&a[0]))
            .unwrap_or_else(|e| {
                println!("{e}");
                std::process::exit(3)
            });
    println!("compiled in {:?}", t.elapsed());
    let inputs = npy::read_npz(Path::new(&a[1])).unwrap();
    let expected = npy::read_npz(Path::new(&a[2])).unwrap();
    let mut n = usize::MAX;
    if let Ok(v) = std::env::var("N") {
        n = v.parse().unwrap();
    }
    let named: Vec<(&str, optc::Val)> = inputs
        .iter()
        .map(|(n2, t)| {
            let mut t = t.clone();
            if n != usize::MAX {
                let mut s = t.shape().to_vec();
                let per = t.bytes().len() / s[0];
                s[0] = n;
                t = optc_tensor::Tensor::from_bytes(t.dtype(), &s, &t.bytes()[..per * n]).unwrap();
            }
            (n2.as_str(), t.into())
        })
        .collect();
    let mut s = model.session();
    let values = s.in_order(&named).unwrap();
    let t = Instant::now();
    let out = s.run_values(&values).unwrap_or_else(|e| {
        println!("{e}");
        std::process::exit(4)
    });
    println!("first run {:?}", t.elapsed());
    let types: Vec<_> = values.iter().map(|v| v.ty()).collect();
    let cp = model.plan_for(&types).unwrap();
    let mut host = std::collections::BTreeMap::new();
    for r in &cp.report {
        if let Decision::Host { reason } = &r.decision {
            *host.entry(format!("{} : {}", r.ops.join("+"), reason)).or_insert(0) += 1;
        }
    }
    if std::env::var("V").is_ok() {
        for r in &cp.report {
            println!("{:?} {:?} {:?}", r.ops, r.results.iter().map(|t| t.to_string()).collect::<Vec<_>>(), r.decision);
        }
    }
    for (k, v) in host {
        println!("host {v:4} {k}");
    }
    println!(
        "kernels {} host {} arena {} consts {} pass {:?} compile {:?}",
        cp.plan.kernel_steps().count(),
        cp.plan.host_steps().count(),
        cp.plan.arena_bytes,
        cp.plan.constant_bytes(),
        cp.pass_time,
        cp.compile_time
    );
    for (info, v) in model.outputs().iter().zip(&out) {
        let Some((_, e)) = expected.iter().find(|(n, _)| *n == info.name) else {
            println!("no expected {}", info.name);
            continue;
        };
        match Difference::between(v.as_tensor().unwrap(), e, 1e-3, 1e-5) {
            None => println!("{}: {:?} vs {:?}", info.name, v.ty(), e),
            Some(d) => println!("{} max/range {:.2e} cos {:.7}", info.name, d.max_abs / d.range.max(1e-30), d.cosine),
        }
    }
    let mut best = f64::MAX;
    let mut tm = Timings::default();
    let start = Instant::now();
    let mut runs = 0;
    while runs < 3 || start.elapsed().as_secs_f64() < 1.0 {
        let t = Instant::now();
        s.run_timed(&values, None).unwrap();
        best = best.min(t.elapsed().as_secs_f64());
        runs += 1;
    }
    println!("best {:.3} ms over {runs}", best * 1e3);
    if std::env::var("PROF").is_ok() {
        for _ in 0..5 {
            s.run_timed(&values, Some(&mut tm)).unwrap();
        }
        let mut rows: Vec<_> = cp
            .plan
            .steps
            .iter()
            .zip(&tm.steps)
            .map(|(s, d)| {
                let (n, f, b) = match s {
                    optc_runtime::plan::Step::Kernel(k) => {
                        (format!("{} {}", k.info.name, k.info.loc.join("+")), k.info.flops, k.info.bytes)
                    }
                    optc_runtime::plan::Step::Host(h) => {
                        (format!("HOST {} {}", h.info.name, h.info.loc.join("+")), 0.0, 0.0)
                    }
                    _ => ("copy".into(), 0.0, 0.0),
                };
                (d.as_secs_f64() / 5.0 * 1e3, n, f, b)
            })
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let k: usize = std::env::var("PROF").unwrap().parse().unwrap_or(25);
        for (ms, n, f, b) in rows.iter().take(k) {
            println!(
                "{ms:8.3} ms {:6.1} GF/s {:6.1} GB/s {}",
                f / ms / 1e6,
                b / ms / 1e6,
                n.chars().take(110).collect::<String>()
            );
        }
    }
}
