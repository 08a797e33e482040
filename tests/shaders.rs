//! Every WGSL file is valid, is in the table of kernels, and agrees with it about parameters and bindings.
//!
//! No device is needed: naga, the compiler inside wgpu, reads and validates the files here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use darkroom::run::gpu::kernels::{Binding, KERNELS, Kernel};
use naga::valid::{Capabilities, ValidationFlags, Validator};

fn wgsl_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(wgsl_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "wgsl") {
            files.push(path);
        }
    }
    files
}

/// Parses and validates `wgsl` as a browser would that has f16, the one optional feature a kernel may enable.
fn validated(wgsl: &str) -> Result<naga::Module, String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16)
        .validate(&module)
        .map_err(|e| e.emit_to_string(wgsl))?;
    Ok(module)
}

/// Compares one kernel's table entry with what its file says, and tells the first difference.
fn agreement(kernel: &Kernel) -> Result<(), String> {
    let module = validated(kernel.wgsl)?;
    if !module.entry_points.iter().any(|entry| entry.name == "main") {
        return Err("has no entry point `main`".into());
    }
    let mut seen = BTreeSet::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(resource) = variable.binding else { continue };
        if resource.group != 0 {
            return Err(format!("uses group {}; there is only group 0", resource.group));
        }
        let found = match variable.space {
            naga::AddressSpace::Uniform => Binding::Uniform,
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => Binding::ReadWrite,
            naga::AddressSpace::Storage { .. } => Binding::Read,
            other => return Err(format!("binds {other:?}")),
        };
        let expected = kernel.bindings.get(resource.binding as usize);
        if expected != Some(&found) {
            return Err(format!("binding {} is {found:?} in the file, {expected:?} in the table", resource.binding));
        }
        if found == Binding::Uniform {
            params_agreement(kernel, &module.types[variable.ty].inner)?;
        }
        seen.insert(resource.binding);
    }
    if seen.len() != kernel.bindings.len() {
        return Err(format!("has {} bindings, the table {}", seen.len(), kernel.bindings.len()));
    }
    Ok(())
}

fn params_agreement(kernel: &Kernel, params: &naga::TypeInner) -> Result<(), String> {
    let naga::TypeInner::Struct { members, span } = params else { return Err("params is no struct".into()) };
    let in_file: Vec<_> = members.iter().map(|m| (m.name.as_deref().unwrap_or("?"), m.offset as usize)).collect();
    if in_file != kernel.params_fields {
        return Err(format!("params are {in_file:?} in the file, {:?} in Rust", kernel.params_fields));
    }
    if *span as usize != kernel.params_bytes {
        return Err(format!("params have {span} bytes in the file, {} in Rust", kernel.params_bytes));
    }
    Ok(())
}

#[test]
fn every_wgsl_file_is_valid_and_in_the_table() {
    let files = wgsl_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(!files.is_empty());
    for file in files {
        let wgsl = std::fs::read_to_string(&file).expect("a readable file");
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let kernel = KERNELS.iter().find(|kernel| kernel.name == name);
        let kernel = kernel.unwrap_or_else(|| panic!("{} is not in KERNELS", file.display()));
        assert_eq!(kernel.wgsl, wgsl, "{name} in KERNELS includes another file");
    }
}

#[test]
fn every_kernel_agrees_with_its_file() {
    for kernel in KERNELS {
        if let Err(reason) = agreement(kernel) {
            panic!("{}: {reason}", kernel.name);
        }
    }
}

#[test]
fn disagreements_are_found() {
    const WGSL: &str = "struct Params { n: u32, c: vec2<f32> }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @compute @workgroup_size(1) fn main() { _ = params.n; _ = x[0]; }";
    const GOOD: Kernel = Kernel {
        name: "probe",
        wgsl: WGSL,
        bindings: &[Binding::Uniform, Binding::Read],
        params_bytes: 16,
        params_fields: &[("n", 0), ("c", 8)],
    };
    assert_eq!(agreement(&GOOD), Ok(()));
    assert!(agreement(&Kernel { wgsl: "fn main() { let a: f32 = 1u; }", ..GOOD }).is_err(), "an invalid file");
    assert!(agreement(&Kernel { wgsl: "@compute @workgroup_size(1) fn run() {}", ..GOOD }).is_err(), "no main");
    assert!(agreement(&Kernel { params_fields: &[("n", 0), ("c", 4)], ..GOOD }).is_err(), "a wrong offset");
    assert!(agreement(&Kernel { params_bytes: 12, ..GOOD }).is_err(), "a wrong size");
    assert!(agreement(&Kernel { bindings: &[Binding::Uniform, Binding::ReadWrite], ..GOOD }).is_err(), "wrong access");
    assert!(
        agreement(&Kernel { bindings: &[Binding::Uniform, Binding::Read, Binding::Read], ..GOOD }).is_err(),
        "a binding too many"
    );
}
