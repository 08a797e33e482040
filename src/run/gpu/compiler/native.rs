//! Natively drivers take tens of milliseconds for a pipeline and serve several threads at once, so that rayon's threads
//! compile while weights load.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};

use super::super::faults::Fault;
use super::super::kernel::{Launch, PipelineKey};
use super::Compiled;

/// What is compiled by whoever comes first, a thread of the pool or the one that needs it; the other waits.
struct Job {
    device: wgpu::Device,
    launch: Launch,
    /// `None` when nobody wants it any more.
    compiled: OnceLock<Option<Compiled>>,
}

impl Job {
    fn finish(&self) -> Option<Compiled> {
        self.compiled.get_or_init(|| Some(compile_alone(&self.device, &self.launch))).clone()
    }
}

/// Compiles with error scopes of its own: they belong to threads, and what a pipeline is refused for must not come up in
/// another stage than the one that uses it.
fn compile_alone(device: &wgpu::Device, launch: &Launch) -> Compiled {
    let filters = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
    let scopes = filters.map(|filter| device.push_error_scope(filter));
    let compiled = Compiled::new(device, launch);
    // The innermost scope was opened last. Natively the futures are ready at once.
    let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
    Compiled { fault: errors.map(Fault::from).reduce(|first, _| first), ..compiled }
}

/// See the module above.
pub struct Compiler {
    device: wgpu::Device,
    /// What was begun ahead and is not handed out yet.
    jobs: RefCell<HashMap<PipelineKey, Arc<Job>>>,
}

impl Compiler {
    /// For one device.
    pub fn new(device: &wgpu::Device) -> Self {
        Compiler { device: device.clone(), jobs: RefCell::default() }
    }

    /// Has the launches' pipelines compiled in the background, in this order.
    pub fn ahead<'a>(&self, launches: impl IntoIterator<Item = &'a Launch>) {
        for launch in launches {
            if let Entry::Vacant(vacant) = self.jobs.borrow_mut().entry(launch.pipeline_key()) {
                let (device, launch) = (self.device.clone(), launch.clone());
                let job = vacant.insert(Arc::new(Job { device, launch, compiled: OnceLock::new() }));
                let job = Arc::clone(job);
                rayon::spawn_fifo(move || drop(job.finish()));
            }
        }
    }

    /// The pipeline of a launch: what was compiled ahead, or else compiled now.
    pub fn compiled(&self, launch: &Launch) -> Compiled {
        let job = self.jobs.borrow_mut().remove(&launch.pipeline_key());
        job.and_then(|job| job.finish()).unwrap_or_else(|| Compiled::new(&self.device, launch))
    }
}

impl Drop for Compiler {
    /// Withdraws what nobody began, and waits for the rest: a process must not end while its driver compiles.
    fn drop(&mut self) {
        for job in self.jobs.get_mut().values() {
            job.compiled.get_or_init(|| None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Gpu;
    use super::super::super::kernel::{Element, Kernel};
    use super::super::super::kernels::elementwise::count_non_finite;
    use super::*;

    static BROKEN: Kernel = Kernel { name: "broken", wgsl: "fn main() {", ..count_non_finite::KERNEL };

    #[test]
    fn what_is_refused_ahead_is_told_to_who_needs_it() {
        if std::env::var_os("DARKROOM_NO_GPU").is_some_and(|value| value == "1") {
            eprintln!("skipped, because DARKROOM_NO_GPU=1 says that there is no GPU here");
            return;
        }
        let gpu = pollster::block_on(Gpu::open()).unwrap();
        let uncaptured = Arc::new(OnceLock::new());
        let told = Arc::clone(&uncaptured);
        gpu.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| told.set(error.to_string()).unwrap()));
        let compiler = Compiler::new(&gpu.device);
        let whole = count_non_finite::launch(4, Element::F32).unwrap();
        let broken = Launch { kernel: &BROKEN, ..whole.clone() };
        compiler.ahead([&whole, &broken, &whole]);
        assert_eq!(compiler.jobs.borrow().len(), 2, "one job for each pipeline");
        assert!(compiler.compiled(&whole).fault.is_none());
        let fault = compiler.compiled(&broken).fault;
        assert!(matches!(&fault, Some(Fault::Other(reason)) if reason.contains("broken")), "{fault:?}");
        // Nobody needs this one, so nobody hears of it.
        compiler.ahead([&broken]);
        drop(compiler);
        assert_eq!(uncaptured.get(), None);
    }
}
