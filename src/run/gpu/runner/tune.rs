//! Measuring which tile serves which matrix product.

use std::collections::BTreeMap;

use web_time::Instant;

use super::super::kernels::{Element, Launch, UNUSED_BYTES, gemm, splitk_reduce};
use super::super::ledger::Purpose;
use super::super::recorder::{Command, Range};
use super::super::tiles::{Measured, Tiles};
use super::GpuRunner;
use crate::error::Result;

/// How long a measurement runs about.
const MEASURED_SECS: f64 = 3e-3;

impl GpuRunner {
    /// Times each tile on each product whose class nobody knows yet.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn tune(&self, gemms: &[gemm::Gemm], element: Element) -> Result<()> {
        let mut classes: BTreeMap<String, gemm::Gemm> = BTreeMap::new();
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

    /// One class: every tile that can do it, whole and with its sums in parts.
    async fn measure(&self, class: &str, wanted: &gemm::Gemm, element: Element) -> Result<Vec<Measured>> {
        // What is in front of the product and behind it costs the same with any tile.
        let epilogue = gemm::Epilogue { geglu: wanted.epilogue.geglu, ..gemm::Epilogue::default() };
        let gemm = gemm::Gemm { epilogue, norm_eps: None, first_out_row: 0, ..*wanted };
        let m = gemm.m()?;
        let source = gemm.source;
        let pixels = u64::from(source.batch) * u64::from(source.in_size[0]) * u64::from(source.in_size[1]);
        let usage = wgpu::BufferUsages::STORAGE;
        let room = |n_bytes| self.recorder.buffer("tiles", n_bytes, usage, Purpose::Other);
        let x = source.channels.map(|channels| room(pixels * u64::from(channels) * element.bytes()));
        let weight = room(2 * u64::from(gemm.k()) * u64::from(gemm.n.next_multiple_of(4)));
        let out = room(u64::from(m) * u64::from(gemm.n_stored()) * element.bytes());
        let machine = self.recorder.caps().machine(element);
        let (_, default_splits) = gemm.default_plan(&machine)?;
        let mut splits_tried = vec![1, default_splits, 2 * default_splits];
        splits_tried.dedup();
        let flops = 2.0 * f64::from(m) * f64::from(gemm.n) * f64::from(gemm.k());
        let mut measured = Vec::new();
        for &tile in gemm::TILES {
            for &splits in &splits_tried {
                if !gemm.allows(tile, splits, &machine) {
                    continue;
                }
                let partial = room(if splits > 1 { gemm.partial_bytes(splits)? } else { UNUSED_BYTES });
                let mut launches = vec![gemm::launch(&gemm, &machine, tile, splits)?];
                if splits > 1 {
                    launches.push(splitk_reduce::launch(&gemm, element, splits)?);
                }
                let product = [
                    x[0].whole(),
                    if source.channels[1] > 0 { x[1].whole() } else { self.unused(1) },
                    weight.whole(),
                    self.unused_weight(),
                    self.unused(4),
                    self.unused(5),
                    if splits > 1 { self.unused(6) } else { out.whole() },
                    if splits > 1 { partial.whole() } else { self.unused(7) },
                ];
                let reduce = [partial.whole(), self.unused_weight(), self.unused(2), self.unused(3), out.whole()];
                let operands: [&[Range<'_>]; 2] = [&product, &reduce];
                // Once for the compiler, once for a guess, then some milliseconds' worth, so that a submit costs nothing.
                let mut secs = f64::INFINITY;
                let mut n_runs = 1;
                for round in 0..4 {
                    let start = Instant::now();
                    self.repeat(&launches, &operands, n_runs).await;
                    let once = start.elapsed().as_secs_f64() / n_runs as f64;
                    if round > 0 {
                        secs = secs.min(once);
                        n_runs = (MEASURED_SECS / once).clamp(1.0, 200.0) as usize;
                    }
                }
                self.recorder.check("measuring tiles")?;
                let gflops = flops / secs / 1e9;
                measured.push(Measured { class: class.to_string(), tile: tile.name, splits, secs, gflops });
            }
        }
        Ok(measured)
    }

    async fn repeat(&self, launches: &[Launch], operands: &[&[Range<'_>]], n: usize) {
        let mut prepared = Vec::new();
        for (launch, operands) in launches.iter().zip(operands) {
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
