//! Winograd's minimal filtering for 3x3 convolutions (Lavin and Gray 2016): fewer multiplications, by sums before and
//! after.
//!
//! A tile of `m` by `m` results needs `n` by `n` pixels, `n = m + 2`. With the matrices of a [`WinogradMatrices`], all
//! tiles together are
//!
//! ```text
//! V[p, tile, c] = (Bᵀ pixels B)[p]                       a kernel, p counts the n² elements of a tile
//! M[p, tile, f] = sum over c of V[p, tile, c] U[p, c, f]  a contraction of n² batches, U = G filter Gᵀ when compiling
//! result        = epilogue(Aᵀ M[.., tile, f] A)           a kernel
//! ```
//!
//! Each result takes `n² / m²` multiplications for each channel instead of 9: 2.25 with m = 4, 4 with m = 2. The sums
//! before and after round too: relative to the largest result the error is below 2e-6 with m = 2, and 2e-5 with m = 4,
//! as the tests check, where the direct sum has about 5e-7.

mod transform;
mod weights;

use optc_kernel::tile::MemType;

use crate::contract::{Contract, ConvNest};
use crate::window::Axis;

/// The matrices of one size of tile.
#[derive(Debug, PartialEq)]
pub struct WinogradMatrices {
    /// Rows and columns of a tile of the result.
    pub outputs: usize,
    /// Bᵀ, of pixels: `[n][n]`.
    input: &'static [&'static [f32]],
    /// G, of filters: `[n][3]`.
    filter: &'static [[f32; 3]],
    /// Aᵀ, of products: `[outputs][n]`.
    output: &'static [&'static [f32]],
    /// The largest error relative to the largest result; that of the direct sum is about 5e-7.
    pub error: f64,
}

impl WinogradMatrices {
    /// Rows and columns of the pixels of a tile.
    pub fn inputs(&self) -> usize {
        self.outputs + 2
    }

    /// Products of a tile for each channel.
    pub fn products(&self) -> usize {
        self.inputs() * self.inputs()
    }
}

/// F(2x2, 3x3), on the points 0, 1, -1.
pub static F2: WinogradMatrices = WinogradMatrices {
    outputs: 2,
    input: &[&[1.0, 0.0, -1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, -1.0, 1.0, 0.0], &[0.0, 1.0, 0.0, -1.0]],
    filter: &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
    output: &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
    error: 2e-6,
};

/// F(4x4, 3x3), on the points 0, 1, -1, 2, -2.
pub static F4: WinogradMatrices = WinogradMatrices {
    outputs: 4,
    input: &[
        &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ],
    filter: &[
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ],
    output: &[
        &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ],
    error: 2e-5,
};

/// A convolution cut into tiles of one form.
#[derive(Clone, Copy, Debug)]
pub struct Winograd<'a> {
    conv: &'a ConvNest,
    form: &'static WinogradMatrices,
}

impl<'a> Winograd<'a> {
    /// A convolution that can be computed this way: 3x3 over two axes, without groups, strides and dilations, of `f32`
    /// with channels side by side in the source.
    pub fn of(conv: &'a ConvNest, form: &'static WinogradMatrices) -> Option<Winograd<'a>> {
        let fits = conv.groups == 1
            && conv.axes[0] == Axis::NONE
            && conv.axes[1..].iter().all(|a| a.is_simple(3) && a.out > 0)
            && (conv.src.mem, conv.src.strides[4]) == (MemType::F32, 4)
            && i32::try_from(conv.src.bytes).is_ok();
        fits.then_some(Winograd { conv, form })
    }

    /// The convolution.
    pub fn conv(&self) -> &'a ConvNest {
        self.conv
    }

    /// The form of its tiles.
    pub fn form(&self) -> &'static WinogradMatrices {
        self.form
    }

    /// Tiles down and across an image.
    fn tiles_of(&self) -> [usize; 2] {
        [1, 2].map(|d| self.conv.axes[d].out.div_ceil(self.form.outputs))
    }

    /// Tiles of all images.
    pub fn tiles(&self) -> usize {
        self.conv.batch * self.tiles_of().iter().product::<usize>()
    }

    /// Bytes of the transformed pixels, and of the products.
    pub fn bytes(&self) -> [usize; 2] {
        [self.conv.channels, self.conv.filters].map(|c| 4 * self.form.products() * self.tiles() * c)
    }

    /// The contraction of the transformed pixels with the transformed weights.
    pub fn product(&self) -> Contract {
        let c = self.conv;
        let product = Contract::matmul(self.form.products(), self.tiles(), c.filters, c.channels);
        Contract { own_b: true, ..product }
    }
}
