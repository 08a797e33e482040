//! Measuring which tile serves which matrix product, and what attentions multiply in.

use std::collections::BTreeMap;

use web_time::Instant;

use super::super::buffer::{Buffer, Range};
use super::super::kernel::{Element, Launch, Machine, Multiply};
use super::super::kernels::attention::{self, Attention};
use super::super::kernels::products::{self, Epilogue, Gemm, gemm, splitk_reduce};
use super::super::ledger::Purpose;
use super::super::recorder::Command;
use super::super::tiles::{IN_F16, IN_F32, Measured, Tiles};
use super::super::weight_layout::WeightLayout;
use super::GpuRunner;
use crate::error::Result;

/// How long a measurement runs about.
const MEASURED_SECS: f64 = 3e-3;

impl GpuRunner {
    /// Times each tile on each product whose class nobody knows yet.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn tune(&self, gemms: &[Gemm], element: Element) -> Result<()> {
        let mut classes: BTreeMap<String, Gemm> = BTreeMap::new();
        for gemm in gemms {
            if !self.tiles.borrow().knows(gemm, element)? {
                classes.entry(Tiles::class(gemm, element)?).or_insert(*gemm);
            }
        }
        for (class, gemm) in classes {
            let measured = self.measure(&class, &gemm, element).await?;
            self.tiles.borrow_mut().learn(&measured);
            self.measured.borrow_mut().extend(measured);
        }
        Ok(())
    }

    /// Times attentions whose class nobody knows yet in f32 and in f16, where there is a choice.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn tune_attentions(&self, attentions: &[Attention], element: Element) -> Result<()> {
        let machine = self.recorder.caps().machine(element);
        for attention in attentions {
            let class = attention.class(element);
            if !attention.has_choice(&machine) || self.tiles.borrow().knows_class(&class) {
                continue;
            }
            let measured = self.measure_attention(&class, attention, &machine).await?;
            self.tiles.borrow_mut().learn(&measured);
            self.measured.borrow_mut().extend(measured);
        }
        Ok(())
    }

    async fn measure_attention(&self, class: &str, attention: &Attention, machine: &Machine) -> Result<Vec<Measured>> {
        let Attention { batch, queries, keys, strides, packed, .. } = *attention;
        let room = |rows: u32, stride: u32| {
            let n_bytes = u64::from(batch) * u64::from(rows) * u64::from(stride) * machine.element.bytes();
            self.recorder.buffer("attentions", n_bytes, wgpu::BufferUsages::STORAGE, Purpose::Other)
        };
        let [q, k, v, out] =
            [room(queries, strides[0]), room(keys, strides[1]), room(keys, strides[2]), room(queries, strides[0])];
        let mut measured = Vec::new();
        for (name, multiply) in [(IN_F32, Multiply::F32), (IN_F16, Multiply::F16)] {
            let launch = attention::launch(attention, machine, multiply)?;
            let bindings = attention::Bindings {
                q: q.whole(),
                k: Some(k.whole()).filter(|_| !packed),
                v: Some(v.whole()).filter(|_| !packed),
                out: out.whole(),
            };
            let secs = self.secs_of(&[(self.bound(&launch, bindings), launch)]).await;
            self.recorder.check("measuring attentions")?;
            let gflops = attention.flops() / secs / 1e9;
            measured.push(Measured { class: class.to_string(), tile: name, splits: 1, secs, gflops });
        }
        Ok(measured)
    }

    /// One class: every tile that can do it, whole and with its sums in parts.
    async fn measure(&self, class: &str, wanted: &Gemm, element: Element) -> Result<Vec<Measured>> {
        // What is in front of the product and behind it costs the same with any tile.
        let epilogue = Epilogue { geglu: wanted.epilogue.geglu, ..Epilogue::default() };
        let product = Gemm { epilogue, norm_eps: None, first_out_row: 0, ..*wanted };
        let m = product.m()?;
        let source = product.source;
        let pixels = u64::from(source.batch) * u64::from(source.in_size[0]) * u64::from(source.in_size[1]);
        let usage = wgpu::BufferUsages::STORAGE;
        let room = |n_bytes| self.recorder.buffer("tiles", n_bytes, usage, Purpose::Other);
        let x = source.channels.map(|channels| room(pixels * u64::from(channels) * element.bytes()));
        let weight = room(WeightLayout::packed_bytes(product.weight, product.k().into(), product.n.into()));
        let out = room(u64::from(m) * u64::from(product.n_stored()) * element.bytes());
        let machine = self.recorder.caps().machine(element);
        let (_, default_splits) = product.default_plan(&machine)?;
        let mut splits_tried = vec![1, default_splits, 2 * default_splits];
        splits_tried.dedup();
        let flops = 2.0 * f64::from(m) * f64::from(product.n) * f64::from(product.k());
        let mut measured = Vec::new();
        for &tile in products::TILES {
            for &splits in &splits_tried {
                if !product.allows(tile, splits, &machine) {
                    continue;
                }
                let launch = gemm::launch(&product, &machine, tile, splits)?;
                let partial = if splits > 1 { Some(room(product.partial_bytes(splits)?)) } else { None };
                let bindings = products::Bindings {
                    source_0: x[0].whole(),
                    source_1: Some(x[1].whole()).filter(|_| source.channels[1] > 0),
                    weight: weight.whole(),
                    bias: None,
                    time_embedding: None,
                    residual: None,
                    out: Some(out.whole()).filter(|_| splits == 1),
                    partial_sums: partial.as_ref().map(Buffer::whole),
                };
                let mut launches = vec![(self.bound(&launch, bindings), launch)];
                if let Some(partial) = &partial {
                    let launch = splitk_reduce::launch(&product, element, splits)?;
                    let bindings = splitk_reduce::Bindings {
                        partial_sums: partial.whole(),
                        bias: None,
                        time_embedding: None,
                        residual: None,
                        out: out.whole(),
                    };
                    launches.push((self.bound(&launch, bindings), launch));
                }
                let secs = self.secs_of(&launches).await;
                self.recorder.check("measuring tiles")?;
                let gflops = flops / secs / 1e9;
                measured.push(Measured { class: class.to_string(), tile: tile.name, splits, secs, gflops });
            }
        }
        Ok(measured)
    }

    /// Seconds of launches, one behind the other: once for the compiler, once for a guess, then some milliseconds' worth, so
    /// that a submit costs nothing.
    async fn secs_of(&self, launches: &[(Vec<Range<'_>>, Launch)]) -> f64 {
        let mut secs = f64::INFINITY;
        let mut n_runs = 1;
        for round in 0..4 {
            let start = Instant::now();
            self.repeat(launches, n_runs).await;
            let once = start.elapsed().as_secs_f64() / n_runs as f64;
            if round > 0 {
                secs = secs.min(once);
                n_runs = (MEASURED_SECS / once).clamp(1.0, 200.0) as usize;
            }
        }
        secs
    }

    async fn repeat(&self, launches: &[(Vec<Range<'_>>, Launch)], n: usize) {
        let mut prepared = Vec::new();
        for (operands, launch) in launches {
            let params = self.recorder.pooled(launch.params.len() as u64);
            self.recorder.write(&params, 0, &launch.params);
            let pipeline = self.recorder.pipeline(launch);
            let group = self.recorder.group(launch, &pipeline, &params, operands);
            prepared.push((launch, pipeline, group, params));
        }
        let mut commands = Vec::new();
        for _ in 0..n {
            for (launch, pipeline, group, _) in &prepared {
                commands.push(Command::Dispatch { launch, pipeline, group, params_offset: 0, shape: "", flops: 0 });
            }
        }
        let ticket = self.recorder.submit(&commands);
        self.recorder.wait(ticket).await;
    }
}
