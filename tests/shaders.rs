//! Every WGSL file is valid for every element type and width that it is compiled for, is in the table of kernels, and
//! agrees with it about parameters, bindings and constants.
//!
//! No device is needed: naga, the compiler inside wgpu, reads and validates the files here.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use darkroom::run::gpu::kernel::{Binding, Element, Kernel, Width};
use darkroom::run::gpu::kernels;
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// The folder, the name without `.wgsl` and the text of each WGSL file of the kernels and of what they stand on.
fn wgsl_files() -> Vec<(PathBuf, String, String)> {
    let gpu = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/run/gpu");
    let mut folders = vec![gpu.join("kernel"), gpu.join("kernels")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wgsl") {
                let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
                files.push((folder.clone(), name, std::fs::read_to_string(&path).expect("a readable file")));
            }
        }
    }
    assert!(!files.is_empty());
    files
}

/// Whether a folder holds what shaders import.
fn is_shared(folder: &Path) -> bool {
    folder.ends_with("shared")
}

/// Parses and validates `wgsl` as a browser would that has f16 or has not. `unpack2x16float` belongs to every browser.
fn validated(wgsl: &str, element: Element) -> Result<naga::Module, String> {
    let capabilities = match element {
        Element::F32 => Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        Element::F16 => Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    };
    // Only natively, and only by the kernels that say so.
    let of_matrices = Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP;
    let capabilities =
        if wgsl.contains("enable wgpu_cooperative_matrix;") { capabilities | of_matrices } else { capabilities };
    // Where they have subgroup operations, and in kernels that are there for nothing else.
    let capabilities =
        if wgsl.contains("subgroupShuffleXor(") { capabilities | Capabilities::SUBGROUP } else { capabilities };
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| e.emit_to_string(wgsl))?;
    Ok(module)
}

/// Compares one kernel's table entry with what its file says for every element and width, and tells the first
/// difference.
fn agreement(kernel: &Kernel) -> Result<(), String> {
    for element in kernel.elements {
        for width in kernel.widths {
            let permutation = |reason| format!("{element:?}, {width:?}: {reason}");
            let module = validated(&kernel.source(*element, *width), *element).map_err(permutation)?;
            module_agreement(kernel, &module).map_err(permutation)?;
        }
    }
    Ok(())
}

fn module_agreement(kernel: &Kernel, module: &naga::Module) -> Result<(), String> {
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
        let name = variable.name.as_deref().unwrap_or("?");
        if expected != Some(&(name, found)) {
            let found = (name, found);
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
    constants_agreement(kernel, module)
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
    if !kernel.params_bytes.is_multiple_of(16) {
        return Err(format!("params have {} bytes, not a multiple of 16", kernel.params_bytes));
    }
    Ok(())
}

fn constants_agreement(kernel: &Kernel, module: &naga::Module) -> Result<(), String> {
    // Constants that follow from others are nobody's to set.
    let is_set = |constant: &&naga::Override| {
        constant.init.is_none_or(|init| matches!(module.global_expressions[init], naga::Expression::Literal(_)))
    };
    let overrides = module.overrides.iter().map(|(_, constant)| constant).filter(is_set);
    let in_file: BTreeSet<_> = overrides.filter_map(|constant| constant.name.as_deref()).collect();
    let in_table: BTreeSet<_> = kernel.constants.iter().copied().collect();
    if in_file != in_table {
        return Err(format!("has the constants {in_file:?}, the table {in_table:?}"));
    }
    Ok(())
}

#[test]
fn every_wgsl_file_is_in_the_table() {
    for (folder, name, wgsl) in wgsl_files().into_iter().filter(|(folder, ..)| !is_shared(folder)) {
        let kernel = kernels::all().find(|kernel| kernel.name == name);
        let kernel = kernel.unwrap_or_else(|| panic!("{name}.wgsl is not in the register"));
        assert_eq!(kernel.wgsl, wgsl, "{name} in the register includes another file than that in {}", folder.display());
    }
}

#[test]
fn every_shared_file_is_used() {
    let sources: Vec<String> = kernels::all()
        .flat_map(|kernel| kernel.elements.iter().map(move |element| (kernel, element)))
        .flat_map(|(kernel, element)| kernel.widths.iter().map(|width| kernel.source(*element, *width)))
        .collect();
    for (_, name, wgsl) in wgsl_files().into_iter().filter(|(folder, ..)| is_shared(folder)) {
        // Imports inside a shared file are replaced, so its text is looked for piece by piece.
        for piece in wgsl.split("\n\n").filter(|piece| !piece.contains("#import")) {
            assert!(sources.iter().any(|source| source.contains(piece)), "{name}.wgsl is not imported: {piece}");
        }
    }
}

#[test]
fn every_kernel_agrees_with_its_file() {
    for kernel in kernels::all() {
        if let Err(reason) = agreement(kernel) {
            panic!("{}: {reason}", kernel.name);
        }
    }
}

#[test]
fn disagreements_are_found() {
    const WGSL: &str = "struct Params { n: u32, c: vec2<f32> }
        override kind: u32 = 1u;
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> x: array<cell>;
        @compute @workgroup_size(1) fn main() { _ = params.n + kind; _ = x[0]; }";
    const GOOD: Kernel = Kernel {
        name: "probe",
        wgsl: WGSL,
        bindings: &[("params", Binding::Uniform), ("x", Binding::Read)],
        imports: &[],
        params_bytes: 16,
        params_fields: &[("n", 0), ("c", 8)],
        constants: &["kind"],
        elements: Element::ALL,
        widths: Width::ALL,
    };
    assert_eq!(agreement(&GOOD), Ok(()));
    assert!(agreement(&Kernel { wgsl: "fn main() { let a: f32 = 1u; }", ..GOOD }).is_err(), "an invalid file");
    assert!(agreement(&Kernel { wgsl: "@compute @workgroup_size(1) fn run() {}", ..GOOD }).is_err(), "no main");
    assert!(agreement(&Kernel { params_fields: &[("n", 0), ("c", 4)], ..GOOD }).is_err(), "a wrong offset");
    assert!(agreement(&Kernel { params_bytes: 12, ..GOOD }).is_err(), "a wrong size");
    assert!(
        agreement(&Kernel { bindings: &[("params", Binding::Uniform), ("x", Binding::ReadWrite)], ..GOOD }).is_err(),
        "wrong access"
    );
    assert!(
        agreement(&Kernel { bindings: &[("params", Binding::Uniform), ("y", Binding::Read)], ..GOOD }).is_err(),
        "another name"
    );
    assert!(agreement(&Kernel { constants: &[], ..GOOD }).is_err(), "an unknown constant");
    assert!(
        agreement(&Kernel {
            bindings: &[("params", Binding::Uniform), ("x", Binding::Read), ("y", Binding::Read)],
            ..GOOD
        })
        .is_err(),
        "a binding too many"
    );
}

#[test]
#[should_panic(expected = "imports nothing_of_the_kind")]
fn unknown_imports_are_refused() {
    let _ = Kernel { wgsl: "#import nothing_of_the_kind", ..*kernels::FAMILIES[0][0] }.source(Element::F32, Width::One);
}
