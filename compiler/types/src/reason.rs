//! Why there is no kernel for an op or no kernel of a form: a code for programs, a sentence for people.

use std::fmt;

/// Declares the codes with their words.
macro_rules! codes {
    ($($(#[$doc:meta])* $Code:ident = $word:literal,)*) => {
        /// Which of the reasons it is that there is no kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ReasonCode { $($(#[$doc])* $Code,)* }

        impl ReasonCode {
            /// All codes.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$Code),*];

            /// The code's word in texts and in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(ReasonCode::$Code => $word,)* }
            }
        }
    };
}

codes! {
    /// No kernel knows blocks of these rows and columns.
    Block = "block",
    /// No kernel knows these numbers: dtypes, or a sum that would not be exact.
    Numbers = "numbers",
    /// The window has more taps than a kernel of planes has room for.
    Taps = "taps",
    /// The product is not a convolution of each channel by itself.
    NotDepthwise = "not_depthwise",
    /// The product is not a plain 3x3 convolution, or the tile is not one of those known.
    NotFiltered = "not_filtered",
    /// An operand is not there, or is not a tensor.
    Absent = "absent",
    /// An operand would have to be a constant.
    NotConstant = "not_constant",
    /// A shape depends on data.
    OpenShape = "open_shape",
    /// Ranks, extents or how they broadcast are outside of what the kernels do.
    Shape = "shape",
    /// There is nothing to compute.
    Empty = "empty",
    /// The bytes do not lie as the kernels need them.
    Layout = "layout",
    /// An attribute asks for what the kernels do not do.
    Attribute = "attribute",
    /// A fused region has another form than kernels have.
    Region = "region",
    /// The op has no kernel at all.
    NoKernel = "no_kernel",
    /// There is no memory for what a kernel needs.
    Memory = "memory",
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Which of the reasons it is.
    pub code: ReasonCode,
    /// What is wrong, for people.
    pub sentence: String,
}

impl Reason {
    /// A reason.
    pub fn new(code: ReasonCode, sentence: impl Into<String>) -> Reason {
        Reason { code, sentence: sentence.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}
