//! Recurrent layers: the steps of an LSTM, a GRU or a simple layer, with the gates fused.
//!
//! The products of all steps' operands with their weights are one contraction before this kernel. A step is then one or
//! two [`Phase`]s: for each vector of units, the sums of all gates over the state stay in registers, the gates are
//! applied to them, and the new state is stored.
//!
//! ```text
//! task = (direction, block of sequences)
//! for step { for phase { for vector of units { for tile of sequences { sums over the state; gates; store } } } }
//! ```
//!
//! A step reads the state before it where the step before has stored it: in the result. The recurrent weights are
//! packed `[direction][phase][vector of units][unit of the state][gate of the phase][lane]`, zeros after the last
//! unit.

mod cells;
mod kernel;
mod tile;

pub use cells::{dynamic, gru, lstm, rnn};
pub use kernel::{FLOAT_KERNEL, recurrent};
use optc_kernel::expr::Expr;
use optc_kernel::tile::MemType;

/// Where the units of one sequence are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequencePlace {
    /// A gate's share of the operand of the step.
    Input(usize),
    /// A row of constants, the same for all sequences.
    Constant(usize),
    /// The hidden state before the step.
    Before,
    /// The hidden state that the step gives.
    After,
    /// The cell's state, which is updated in place.
    Cell,
    /// A vector that lives from one phase of a step to the next.
    Scratch(usize),
    /// Zeros.
    Zero,
    /// What a phase multiplies, as integers without their zero point.
    Integers,
    /// The scale of those integers.
    Scale,
    /// One value for all units: more than zero while the sequence runs.
    Running,
    /// The hidden state after the last step that the sequence ran, which is updated in place.
    Last,
}

/// Sums over a state and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// The gates of the recurrent weights that are summed.
    pub gates: Vec<usize>,
    /// What each sum starts from.
    pub starts: Vec<SequencePlace>,
    /// What is multiplied by the weights.
    pub from: SequencePlace,
    /// Whether that is quantized before, over all sequences at once, and the integers are multiplied.
    pub quantized: bool,
    /// What the expressions read, after the sums.
    pub operands: Vec<SequencePlace>,
    /// What is stored. All is read before anything is written.
    pub outputs: Vec<(Expr, SequencePlace)>,
}

/// One direction of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// Whether it starts at the end.
    pub reverse: bool,
    /// What a step does.
    pub phases: Vec<Phase>,
}

/// A layer over `[steps, batch, …]`. All directions have the same places.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentNest {
    /// Time steps.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Units.
    pub hidden: usize,
    /// Gates of the operands' products.
    pub gates: usize,
    /// Rows of constants of a direction.
    pub constants: usize,
    /// What a packed recurrent weight is: `f32`, or `i8` for integers that fit.
    pub weights: MemType,
    /// One or two.
    pub directions: Vec<Direction>,
}

/// Phases of sequences that end at steps of their own ([`SequencePlace::Running`]): after its end, or before its
/// beginning in reverse, a sequence keeps its states and gives zeros.
pub fn bounded(phases: Vec<Phase>) -> Vec<Phase> {
    phases.into_iter().map(cells::bounded_phase).collect()
}

impl RecurrentNest {
    /// Packs the recurrent weights `[directions, gates * hidden, hidden]`; as floats, whatever they are in memory.
    pub fn pack(&self, weights: &[f32], lanes: usize) -> Vec<f32> {
        let (h, mut packed) = (self.hidden, Vec::with_capacity(self.packed_len(lanes)));
        for (dir, direction) in weights.chunks(self.gates * h * h).zip(&self.directions) {
            for phase in &direction.phases {
                for unit in (0..h).step_by(lanes) {
                    for k in 0..h {
                        for gate in &phase.gates {
                            let lane = |l: usize| (unit + l < h).then(|| dir[(gate * h + unit + l) * h + k]);
                            packed.extend((0..lanes).map(|l| lane(l).unwrap_or(0.0)));
                        }
                    }
                }
            }
        }
        packed
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self, lanes: usize) -> usize {
        let gates: usize = self.directions.iter().flat_map(|d| &d.phases).map(|p| p.gates.len()).sum();
        gates * self.hidden.next_multiple_of(lanes) * self.hidden
    }

    fn places(&self) -> impl Iterator<Item = SequencePlace> + '_ {
        let phases = self.directions.iter().flat_map(|d| &d.phases);
        phases.flat_map(|p| p.starts.iter().chain(&p.operands).copied().chain(p.outputs.iter().map(|o| o.1)))
    }

    fn has_cell(&self) -> bool {
        self.places().any(|p| p == SequencePlace::Cell)
    }

    /// Whether sequences end at steps of their own.
    fn is_bounded(&self) -> bool {
        self.places().any(|p| p == SequencePlace::Running)
    }

    fn is_quantized(&self) -> bool {
        self.directions.iter().flat_map(|d| &d.phases).any(|p| p.quantized)
    }

    fn scratch_vectors(&self) -> usize {
        self.places().map(|p| if let SequencePlace::Scratch(i) = p { i + 1 } else { 0 }).max().unwrap_or(0)
    }
}
