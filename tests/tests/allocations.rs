//! After its first runs a session allocates nothing for kernels: what is left is the list of outputs with their names
//! and shapes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use optc::{Compiler, Options, Tensor, Val};
use optc_tests::data;

/// Counts the bytes that are asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to `System`; counting changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes that one run may ask for: far less than any buffer of the networks below.
const BOOKKEEPING: usize = 2048;

// A single test, as the count is for the whole process.
#[test]
fn runs_after_the_first_allocate_no_buffers() {
    for (name, threads) in [("lenet", 1), ("resnet8", 2), ("vit", 1)] {
        let options = Options { threads, ..Options::default() };
        let model = Compiler::new(options).compile_file(&data::testdata(&format!("{name}.onnx"))).unwrap();
        let picture = Val::Tensor(Tensor::from_slice(&[1, 1, 28, 28], &[0.5f32; 28 * 28]).unwrap());
        let inputs = [picture];
        let mut session = model.session();
        (0..3).for_each(|_| drop(session.run_values(&inputs).unwrap()));
        let before = ASKED.load(Ordering::Relaxed);
        drop(session.run_values(&inputs).unwrap());
        let asked = ASKED.load(Ordering::Relaxed) - before;
        assert!(asked <= BOOKKEEPING, "{name}: a run asks for {asked} bytes");
    }
}
