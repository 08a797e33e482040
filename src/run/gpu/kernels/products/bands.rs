//! Convolutions whose input or output is cut into bands of rows: the same product for each band, now or whenever rows of
//! it are read.

use std::rc::Rc;

use super::emit::{Factors, Products};
use super::fuse::Product;
use super::sizes::{Gemm, Source};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::bands::Rows;
use crate::run::gpu::emit::{Deferred, Emitter, Operand};
use crate::run::gpu::kernels::elementwise::rows::{as_if_kept, exactly, put_away, rows_of};

/// A product whose result is cut.
pub(in crate::run::gpu) struct Banded<'a> {
    products: Products<'a>,
    product: Product,
    node: NodeId,
    out: NodeId,
}

/// Where a band of a product goes.
struct Target {
    /// The rows of the result.
    rows: Rows,
    /// Where they are written; into a new slot without it.
    out: Option<Operand>,
    /// Rows in front of them there.
    rows_before: usize,
}

impl<'a> Products<'a> {
    /// Begins a product whose result is cut, if it is: its bands are written by [`Banded::fill`].
    pub fn begin(
        &self,
        emitter: &mut Emitter<'a>,
        product: &Product,
        node: NodeId,
        out: NodeId,
    ) -> Result<Option<Rc<Banded<'a>>>> {
        if !emitter.is_cut(out) {
            return Ok(None);
        }
        let products = self.clone();
        let banded = Rc::new(Banded { products, product: product.clone(), node, out });
        if emitter.bands_of(out).is_none() {
            // What adds a residual would keep that as well.
            let can_be_again = product.residual.is_none() && product.time_embedding.is_none();
            let maker: Rc<dyn Deferred<'a> + 'a> = banded.clone();
            emitter.begin_bands(out, maker, can_be_again)?;
        }
        Ok(Some(banded))
    }

    /// The product for one part after the other of a result that lies in one place, from an input that is cut.
    pub(super) fn emit_from_bands(
        &self,
        emitter: &mut Emitter<'a>,
        product: &Product,
        node: NodeId,
        out: NodeId,
    ) -> Result<()> {
        let gemm = self.sizes(emitter, product, node);
        let [x] = product.x[..] else { return emitter.refuse("conv2d", "cannot read two pictures in bands") };
        let height = gemm.source.out_size[0] as usize;
        // The result is whole, but no more of the input should be gathered at once than a band.
        let out = emitter.room(out)?;
        let in_bytes = emitter.node(x).n_elements() as u64 * emitter.element.bytes();
        let rows = emitter.bands.rows(height, in_bytes);
        for rows in emitter.cuts.of_height(height, rows) {
            let target = Target { rows, out: Some(out.clone()), rows_before: rows.first };
            self.part(emitter, product, &gemm, target)?;
        }
        Ok(())
    }

    /// The product for some rows of the result.
    fn part(&self, emitter: &mut Emitter<'a>, product: &Product, gemm: &Gemm, target: Target) -> Result<Operand> {
        let (Some(conv), [x]) = (product.conv, &product.x[..]) else {
            return emitter.refuse("conv2d", "cannot read two pictures in bands");
        };
        let Target { rows, out, rows_before } = target;
        let scale = if conv.upsample.is_some() { 2 } else { 1 };
        let in_height = gemm.source.in_size[0] as usize;
        // The rows of the input, doubled where that comes first, that the kernel covers.
        let from = (rows.first * conv.stride).saturating_sub(conv.pad[0]) / scale;
        let to = ((rows.end() - 1) * conv.stride + conv.kernel).saturating_sub(conv.pad[0]).div_ceil(scale);
        let wanted = Rows { first: from, n: to.min(in_height) - from };
        let (source_0, at) = rows_of(emitter, *x, wanted)?;
        let upsample = gemm.source.upsample.map(|[full_h, full_w]| {
            // The rows there, doubled, without what an odd height leaves out below.
            [(full_h - (at.first * scale) as u32).min((at.n * scale) as u32), full_w]
        });
        let source = Source {
            in_size: [at.n as u32, gemm.source.in_size[1]],
            upsample,
            out_size: [rows.n as u32, gemm.source.out_size[1]],
            pad: [
                conv.pad[0] as i32 - (rows.first * conv.stride) as i32 + (at.first * scale) as i32,
                gemm.source.pad[1],
            ],
            ..gemm.source
        };
        let first_out_row = rows_before as u32 * gemm.source.out_size[1];
        let gemm = Gemm { source, first_out_row, ..*gemm };
        // The residual lies as the result does.
        let residual = match product.residual {
            Some(residual) if out.is_none() => Some(exactly(emitter, residual, rows)?),
            Some(residual) => Some(emitter.whole(residual)?),
            None => None,
        };
        let factors = Factors { source_0, source_1: None, residual };
        let n_values = rows.n as u64 * u64::from(gemm.source.out_size[1]) * u64::from(gemm.n_stored());
        let out = match out {
            Some(out) => out,
            None => emitter.slot(n_values * emitter.element.bytes()),
        };
        let room = |_: &mut Emitter<'a>| Ok(out.clone());
        self.one(emitter, product, &gemm, factors, room, |_, _| Ok(false))?;
        Ok(out)
    }
}

impl<'a> Banded<'a> {
    /// What the norm in front of it reads, as `source` tells it of the input.
    pub fn source_of(&self, source: impl Fn(&NodeId) -> Option<NodeId>) -> Option<NodeId> {
        self.product.x.first().and_then(source)
    }

    /// The bands of the result.
    pub fn n_bands(&self, emitter: &Emitter<'a>) -> usize {
        emitter.bands_of(self.out).map_or(0, |bands| bands.rows.len())
    }

    /// Writes a band, if it is to be kept and is not there.
    pub fn fill(&self, emitter: &mut Emitter<'a>, band: usize) -> Result<()> {
        let missing = emitter.bands_of(self.out).filter(|bands| band < bands.n_kept && bands.places[band].is_none());
        let Some(rows) = missing.map(|bands| bands.rows[band]) else { return Ok(()) };
        let gemm = self.products.sizes(emitter, &self.product, self.node);
        let target = Target { rows, out: None, rows_before: 0 };
        let computed = self.products.part(emitter, &self.product, &gemm, target)?;
        put_away(emitter, self.out, band, computed)
    }
}

impl<'a> Deferred<'a> for Banded<'a> {
    fn source(&self) -> NodeId {
        self.product.x.first().copied().unwrap_or(self.node)
    }

    fn rows(&self, emitter: &mut Emitter<'a>, wanted: Rows) -> Result<Operand> {
        let own = emitter.node(self.node).name.clone();
        let name = std::mem::replace(&mut emitter.name, own);
        let gemm = self.products.sizes(emitter, &self.product, self.node);
        let target = Target { rows: wanted, out: None, rows_before: 0 };
        let computed = self.products.part(emitter, &self.product, &gemm, target)?;
        as_if_kept(emitter, self.out, wanted.n, &computed)?;
        emitter.name = name;
        Ok(computed)
    }
}
