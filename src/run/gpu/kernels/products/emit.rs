//! Emits products: in one dispatch, or split along K with partial sums that [`splitk_reduce`] or the next reader adds.

use std::cell::RefCell;
use std::rc::Rc;

use super::fuse::{Product, RowsOf};
use super::params::Bindings;
use super::sizes::{Epilogue, Gemm, RowVector, Source};
use super::tiles::Tiles;
use super::{gemm, splitk_reduce};
use crate::error::Result;
use crate::graph::{NodeId, Op};
use crate::run::gpu::emit::{Emitter, Operand};
use crate::run::gpu::kernels::layer_norm;

/// What the products of one program share.
#[derive(Clone)]
pub(in crate::run::gpu) struct Products<'a> {
    /// Which tile serves which product.
    pub tiles: &'a Tiles,
    /// Every product so far, for the tuner.
    pub gemms: Rc<RefCell<Vec<Gemm>>>,
}

/// A split-K product before its reduction: the reader adds the partial sums, applies the epilogue and writes the result.
pub(in crate::run::gpu) struct Parts {
    pub gemm: Gemm,
    pub splits: u32,
    pub partial_sums: Operand,
    pub bias: Option<Operand>,
    pub time_embedding: Option<Operand>,
    pub residual: Option<Operand>,
}

/// The operands of a product, or of one band of it.
pub(super) struct Factors {
    pub source_0: Operand,
    pub source_1: Option<Operand>,
    pub residual: Option<Operand>,
}

impl<'a> Products<'a> {
    /// The sizes of a product whose operation is that of `node`.
    pub(super) fn sizes(&self, emitter: &Emitter<'_>, product: &Product, node: NodeId) -> Gemm {
        let x_shape = match product.norm {
            Some(norm) => emitter.shape(norm),
            None => emitter.shape(emitter.node(node).inputs[0]),
        };
        let n = product.weights.iter().map(|&weight| emitter.shape(weight)[0]).sum::<usize>() as u32;
        let channels = match product.x[..] {
            [a, b] => [a, b].map(|part| emitter.width(part)),
            _ => [x_shape.last().copied().unwrap_or(0) as u32, 0],
        };
        let source = match product.conv {
            Some(conv) => {
                let out = emitter.shape(node);
                Source {
                    batch: x_shape[0] as u32,
                    in_size: [x_shape[1] as u32, x_shape[2] as u32],
                    channels,
                    out_size: [out[1] as u32, out[2] as u32],
                    kernel: conv.kernel as u32,
                    stride: conv.stride as u32,
                    pad: [conv.pad[0] as i32, conv.pad[1] as i32],
                    upsample: conv.upsample.map(|size| size.map(|side| side as u32)),
                }
            }
            None => {
                let rows = x_shape[1..x_shape.len() - 1].iter().product::<usize>();
                Source::rows(x_shape[0] as u32, rows as u32, channels[0])
            }
        };
        let vector = |rows: RowsOf| RowVector { stride: rows.stride as u32, offset: rows.offset as u32 };
        let epilogue = Epilogue {
            bias: !product.biases.is_empty(),
            time_embedding: product.time_embedding.map(vector),
            activation: product.activation,
            geglu: product.geglu,
            residual: product.residual.is_some(),
            relu_last: product.relu_last,
        };
        let norm_eps = product.norm.and_then(|norm| match emitter.node(norm).op {
            Op::LayerNorm { eps } => Some(eps as f32),
            _ => None,
        });
        Gemm { norm_eps, weight: product.weight_type, ..Gemm::new(source, n, epilogue) }
    }

    /// Emits a product into the storage of `out`. Where it is split and `reader_adds` holds for the product and its number of
    /// parts, the reduction is left to the next task.
    pub fn emit(
        &self,
        emitter: &mut Emitter<'a>,
        product: &Product,
        node: NodeId,
        out: NodeId,
        reader_adds: impl Fn(&Gemm, u32) -> Result<bool>,
    ) -> Result<Option<Parts>> {
        if !product.x.iter().all(|&x| emitter.is_whole(x)) {
            self.emit_from_bands(emitter, product, node, out)?;
            return Ok(None);
        }
        let gemm = self.sizes(emitter, product, node);
        let mut sources = product.x.iter().map(|&x| emitter.whole(x)).collect::<Result<Vec<_>>>()?.into_iter();
        let (Some(source_0), source_1) = (sources.next(), sources.next()) else {
            return emitter.refuse("gemm", "has no rows");
        };
        let residual = product.residual.map(|id| emitter.whole(id)).transpose()?;
        let factors = Factors { source_0, source_1, residual };
        self.one(emitter, product, &gemm, factors, |emitter| emitter.room(out), reader_adds)
    }

    /// Emits one product, whole or split.
    pub(super) fn one(
        &self,
        emitter: &mut Emitter<'a>,
        product: &Product,
        gemm: &Gemm,
        factors: Factors,
        out: impl FnOnce(&mut Emitter<'a>) -> Result<Operand>,
        reader_adds: impl Fn(&Gemm, u32) -> Result<bool>,
    ) -> Result<Option<Parts>> {
        let machine = emitter.machine;
        let (tile, mut splits) = self.tiles.choose(gemm, &machine)?;
        // Fewer parts where an adapter allows little.
        while splits > 1 && gemm.partial_bytes(splits)? > emitter.max_binding_bytes {
            splits -= 1;
        }
        let (m, n, k) = (gemm.m()?, gemm.n, gemm.k());
        let flops = 2 * u64::from(m) * u64::from(n) * u64::from(k);
        let of_taps = if gemm.source.kernel > 1 { " 3x3" } else { "" };
        let enlarged = if gemm.source.upsample.is_some() { " up" } else { "" };
        let shape = format!("{m}x{n}x{k}{of_taps}{enlarged} tile {}/{splits}", tile.name);
        self.gemms.borrow_mut().push(*gemm);
        let vectors = product.vectors_key(emitter.graph).map(Operand::Weight);
        let weight = Operand::Weight(product.weight_key(emitter.graph));
        let Factors { mut source_0, source_1, residual } = factors;
        let mut gemm = *gemm;
        // Cooperative matrices take rows as they are.
        if let (Some(eps), true, Some(vectors)) = (gemm.norm_eps, tile.is_of_matrices(), &vectors) {
            source_0 = normalised_rows(emitter, &gemm, eps, source_0, vectors)?;
            gemm.norm_eps = None;
        }
        let time_embedding = product.time_embedding.map(|rows| emitter.whole(rows.root)).transpose()?;
        if splits == 1 {
            let out = Some(out(emitter)?);
            let launch = gemm::launch(&gemm, &machine, tile, 1)?;
            let bindings = Bindings {
                source_0,
                source_1,
                weight,
                bias: vectors,
                time_embedding,
                residual,
                out,
                partial_sums: None,
            };
            emitter.emit(launch, bindings, shape, flops);
            return Ok(None);
        }
        let partial_sums = emitter.slot(gemm.partial_bytes(splits)?);
        let launch = gemm::launch(&gemm, &machine, tile, splits)?;
        // Split-K launches skip the epilogue, but not the norm of their rows.
        let bindings = Bindings {
            source_0,
            source_1,
            weight,
            bias: vectors.clone().filter(|_| gemm.norm_eps.is_some()),
            time_embedding: None,
            residual: None,
            out: None,
            partial_sums: Some(partial_sums.clone()),
        };
        emitter.emit(launch, bindings, shape.clone(), flops);
        let bias = vectors.filter(|_| gemm.epilogue.bias);
        let parts = Parts { gemm, splits, partial_sums, bias, time_embedding, residual };
        if reader_adds(&gemm, splits)? {
            return Ok(Some(parts));
        }
        let out = out(emitter)?;
        let Parts { partial_sums, bias, time_embedding, residual, .. } = parts;
        let launch = splitk_reduce::launch(&gemm, emitter.element, splits)?;
        let bindings = splitk_reduce::Bindings { partial_sums, bias, time_embedding, residual, out };
        emitter.emit(launch, bindings, shape, 0);
        Ok(None)
    }
}

/// Emits the layer norm of a product's rows into a slot of their own, with the product's buffer of vectors.
fn normalised_rows(emitter: &mut Emitter<'_>, gemm: &Gemm, eps: f32, x: Operand, vectors: &Operand) -> Result<Operand> {
    let (rows, columns) = (gemm.m()?, gemm.k());
    let out = emitter.slot(u64::from(rows) * u64::from(columns) * emitter.element.bytes());
    let first = if gemm.epilogue.bias { gemm.n } else { 0 };
    let launch = layer_norm::launch_of_vectors(rows, columns, eps, [first, first + columns], &emitter.machine)?;
    let bindings = layer_norm::Bindings { x, weight: vectors.clone(), bias: vectors.clone(), out: out.clone() };
    emitter.emit(launch, bindings, format!("{rows}x{columns}"), 0);
    Ok(out)
}
