//! The arithmetic on tensors between programs: the sampler's, casts, copies, and what comes back to the host.

use std::rc::Rc;

use super::super::arena::ALIGNMENT;
use super::super::buffer::Range;
use super::super::emit::four;
use super::super::kernel::{Element, UNUSED_BYTES};
use super::super::kernels::elementwise::{cast_from_f32, cast_to_f32, copy, count_non_finite, rgba};
use super::super::kernels::sampling::{blend, lincomb};
use super::super::recorder::Command;
use super::GpuRunner;
use super::tensor::{GpuTensor, Kind};
use crate::error::Result;
use crate::run::Colours;

impl GpuRunner {
    /// The values of a tensor in another type.
    pub(super) fn cast(&self, tensor: &GpuTensor, element: Element) -> Result<GpuTensor> {
        let out = self.floats(&tensor.shape, element);
        let n_values = tensor.n_values() as u32;
        let (x, into) = (tensor.range(), out.range());
        match element {
            Element::F32 => {
                let launch = cast_to_f32::launch(n_values, tensor.element())?;
                self.run_once(&launch, cast_to_f32::Bindings { x, out: into });
            }
            Element::F16 => {
                let launch = cast_from_f32::launch(n_values, element)?;
                self.run_once(&launch, cast_from_f32::Bindings { x, out: into });
            }
        }
        Ok(out)
    }

    /// How many values are NaN or infinite.
    pub(super) async fn count_bad(&self, tensor: &GpuTensor) -> Result<u64> {
        let counter = self.recorder.pooled(4);
        self.recorder.write(&counter, 0, &[0; 4]);
        let launch = count_non_finite::launch(tensor.n_values() as u32, tensor.element())?;
        let range = Range { buffer: &counter, offset: 0, n_bytes: UNUSED_BYTES };
        self.run_once(&launch, count_non_finite::Bindings { x: tensor.range(), total: range });
        let word = Range { n_bytes: 4, ..range };
        let bytes = self.recorder.read(word, "check of values").await?;
        Ok(bytes.first_chunk().map_or(0, |word| u64::from(u32::from_le_bytes(*word))))
    }

    /// Pixels as bytes.
    pub(super) async fn pixels(&self, tensor: &GpuTensor, step: usize, colours: &Colours) -> Result<Vec<u8>> {
        let [_, height, width, channels] = four(&tensor.shape)?;
        let launch = rgba::launch([height, width], step as u32, channels, colours, tensor.element())?;
        let [out_h, out_w] = rgba::out_size([height, width], step as u32);
        let out = self.tensor(&[(out_h * out_w) as usize], Kind::Ids);
        self.run_once(&launch, rgba::Bindings { x: tensor.range(), out: out.range() });
        let range = Range { n_bytes: out.n_bytes(), ..out.range() };
        self.recorder.read(range, "picture").await
    }

    /// The sum of tensors of one shape, each times a scalar.
    pub(super) fn combined(&self, terms: &[(f64, &GpuTensor)], clamp: Option<(f64, f64)>) -> Result<GpuTensor> {
        let Some((_, first)) = terms.first() else { return self.fail("lincomb", "wants at least one term".into()) };
        if let Some((_, other)) = terms.iter().find(|(_, x)| x.shape != first.shape) {
            return self.fail("lincomb", format!("cannot add {:?} to {:?}", other.shape, first.shape));
        }
        let element = self.same_element("lincomb", &terms.iter().map(|(_, x)| *x).collect::<Vec<_>>())?;
        // Two ranges of a dispatch must not be the same: factors of one tensor are added up first.
        let mut merged: Vec<(f32, &GpuTensor)> = Vec::new();
        for (factor, tensor) in terms {
            let same = |known: &GpuTensor| Rc::ptr_eq(&known.buffer, &tensor.buffer) && known.offset == tensor.offset;
            match merged.iter_mut().find(|(_, known)| same(known)) {
                Some((sum, _)) => *sum += *factor as f32,
                None => merged.push((*factor as f32, tensor)),
            }
        }
        let coefficients: Vec<f32> = merged.iter().map(|(factor, _)| *factor).collect();
        let clamp = clamp.map(|(low, high)| (low as f32, high as f32));
        let launch = lincomb::launch(&coefficients, first.n_values() as u32, clamp, element)?;
        let out = self.floats(&first.shape, element);
        let terms = merged.iter().map(|(_, tensor)| tensor.range()).collect();
        self.run_once(&launch, lincomb::Bindings { terms, result: out.range() });
        Ok(out)
    }

    /// mask a + (1 - mask) b.
    pub(super) fn blended(&self, mask: &GpuTensor, a: &GpuTensor, b: &GpuTensor) -> Result<GpuTensor> {
        let element = self.same_element("blend", &[mask, a, b])?;
        let channels = a.shape.last().copied().unwrap_or(1) as u32;
        let pixels = a.n_values() as u32 / channels.max(1);
        let launch = blend::launch(pixels, channels, element)?;
        let out = self.floats(&a.shape, element);
        let [mask, a, b, into] = [mask, a, b, &out].map(GpuTensor::range);
        self.run_once(&launch, blend::Bindings { mask, a, b, out: into });
        Ok(out)
    }

    /// Tensors joined along an axis.
    pub(super) fn joined(&self, parts: &[&GpuTensor], axis: usize) -> Result<GpuTensor> {
        let Some(first) = parts.first() else { return self.fail("concat", "wants at least one tensor".into()) };
        let element = self.same_element("concat", parts)?;
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let out = self.tensor(&shape, first.kind);
        // Parts that lie one behind the other are copied as they are.
        let is_outermost = shape[..axis].iter().all(|&n| n == 1);
        if is_outermost && parts.iter().all(|part| part.n_bytes().is_multiple_of(4)) {
            let mut commands = Vec::new();
            let mut to_offset = 0;
            for part in parts {
                let n_bytes = part.n_bytes();
                commands.push(Command::Copy { from: Range { n_bytes, ..part.range() }, to: &out.buffer, to_offset });
                to_offset += n_bytes;
            }
            self.recorder.submit(&commands);
            drop(commands);
            return Ok(out);
        }
        let axis4 = axis + 4 - shape.len();
        let mut start = 0;
        for part in parts {
            let size = four(&part.shape)?;
            let launch = copy::launch(&copy::Copy::into_part(size, four(&shape)?, axis4, start), element)?;
            self.run_once(&launch, copy::Bindings { source: part.range(), out: out.range() });
            start += size[axis4];
        }
        Ok(out)
    }

    /// `len` entries from `start` along an axis; a view where what is bound may begin there.
    pub(super) fn sliced(&self, tensor: &GpuTensor, axis: usize, start: usize, len: usize) -> Result<GpuTensor> {
        let mut shape = tensor.shape.clone();
        if start + len > shape[axis] {
            return self.fail("slice", format!("{start}..{} is outside axis {axis} of {shape:?}", start + len));
        }
        shape[axis] = len;
        // What lies in one piece at a place that can be bound needs no copy.
        let piece = tensor.shape[axis + 1..].iter().product::<usize>() as u64 * tensor.kind.bytes();
        let offset = tensor.offset + start as u64 * piece;
        let is_outermost = tensor.shape[..axis].iter().all(|&n| n == 1);
        if is_outermost && offset.is_multiple_of(ALIGNMENT) && (len as u64 * piece).is_multiple_of(ALIGNMENT) {
            return Ok(GpuTensor { buffer: Rc::clone(&tensor.buffer), offset, shape, kind: tensor.kind });
        }
        let axis4 = axis + 4 - shape.len();
        let slice = copy::Copy::slice(four(&tensor.shape)?, axis4, start as u32, len as u32);
        let out = self.tensor(&shape, tensor.kind);
        let launch = copy::launch(&slice, tensor.element())?;
        self.run_once(&launch, copy::Bindings { source: tensor.range(), out: out.range() });
        Ok(out)
    }

    /// The type that tensors share.
    fn same_element(&self, what: &str, tensors: &[&GpuTensor]) -> Result<Element> {
        match tensors {
            [first, rest @ ..] if rest.iter().all(|tensor| tensor.kind == first.kind) => Ok(first.element()),
            _ => self.fail(what, "cannot combine tensors of different types".into()),
        }
    }
}
