//! Every adapter that wgpu finds with all of its limits and features, and what the one that Darkroom opens does at most.

use darkroom::run::gpu::Gpu;
use serde_json::{Map, Value, json};

use crate::peak::peak;
use crate::{Options, Outcome};

pub async fn run(options: &Options) -> Outcome<()> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    for adapter in instance.enumerate_adapters(wgpu::Backends::all()).await {
        let info = adapter.get_info();
        let features: Vec<&str> = adapter.features().iter_names().map(|(name, _)| name).collect();
        let limits = fields(&format!("{:#?}", adapter.limits()));
        let matrices: Vec<String> = adapter
            .cooperative_matrix_properties()
            .iter()
            .map(|m| format!("{}x{}x{} {:?} -> {:?}", m.m_size, m.n_size, m.k_size, m.ab_type, m.cr_type))
            .collect();
        println!("adapter: {} ({:?}, {})", info.name, info.device_type, info.backend);
        println!("  driver: {} {}", info.driver, info.driver_info);
        println!("  subgroups: {} to {}", info.subgroup_min_size, info.subgroup_max_size);
        println!("  cooperative matrices: {}", if matrices.is_empty() { "none".into() } else { matrices.join(", ") });
        println!("  features: {}", features.join(" "));
        let limits_line: Vec<String> = limits.iter().map(|(name, value)| format!("{name} {value}")).collect();
        println!("  limits: {}", limits_line.join(", ").replace('"', ""));
        options.rows.add(
            "adapter",
            json!({
                "name": info.name, "type": format!("{:?}", info.device_type), "backend": info.backend.to_string(),
                "vendor": info.vendor, "device": info.device, "pci": info.device_pci_bus_id, "driver": info.driver,
                "driver_info": info.driver_info, "subgroup_sizes": [info.subgroup_min_size, info.subgroup_max_size],
                "cooperative_matrices": matrices, "features": features, "limits": limits,
            }),
        );
    }
    let gpu = Gpu::open_with_matrices().await?;
    println!("opened: {}", serde_json::to_string(&gpu.caps)?);
    options.rows.add("caps", serde_json::to_value(&gpu.caps)?);
    let peak = peak(&gpu).await?;
    println!(
        "at most: {:.0} GFLOP/s in f32 registers, {} in f16, {} with matrices, {:.1} GB/s of memory; the timestamps' \
         period is {} ns",
        peak.gflops,
        figure(peak.gflops_f16),
        figure(peak.gflops_matrix),
        peak.gbytes,
        gpu.queue.get_timestamp_period()
    );
    options.rows.add("peak", peak.to_json());
    println!("ADAPTER {} {}", if gpu.caps.software { "software" } else { "gpu" }, gpu.caps.name);
    Ok(())
}

fn figure(gflops: Option<f64>) -> String {
    gflops.map_or_else(|| "-".into(), |gflops| format!("{gflops:.0}"))
}

/// `name: value,` lines of a struct as Rust shows it.
fn fields(debug: &str) -> Map<String, Value> {
    let fields = debug.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
    fields
        .map(|(name, value)| (name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value))))
        .collect()
}
