//! Trajectory consistency distillation (arXiv 2402.19159), after diffusers' `TCDScheduler`: each call jumps along the
//! trajectory to a share of the next timestep, and noise brings it back up. `eta` is the paper's gamma: 0 jumps to the
//! next timestep itself and adds no noise.

use crate::error::Result;

use super::ddim::Levels;
use super::{SamplerStep, Schedule, Settings, Slot, Sum, lcm};

pub(super) fn schedule(settings: &Settings, n_steps: usize, n_skipped: usize) -> Result<Schedule> {
    let levels = Levels::new(settings)?;
    let visited = lcm::timesteps(settings, n_steps, 1.0)?.split_off(n_skipped);
    let steps = visited.iter().enumerate().map(|(i, &timestep)| {
        let next = visited.get(i + 1).copied();
        // The last call jumps to the first training step, not to the picture behind it.
        let target = next.unwrap_or(0);
        let jump = ((1.0 - settings.eta) as f32 * target as f32).floor() as i64;
        let (alpha, sigma) = levels.add_noise(timestep);
        let (alpha_jump, sigma_jump) = levels.add_noise(jump);
        let jumped = Sum::default()
            .plus_sum(alpha_jump, &settings.prediction.original(alpha, sigma))
            .plus_sum(sigma_jump, &settings.prediction.noise(alpha, sigma));
        let draws_noise = settings.eta > 0.0 && next.is_some();
        let update = if draws_noise {
            let ratio = levels.get(target) as f32 / levels.get(jump) as f32;
            Sum::default().plus_sum(ratio.sqrt().into(), &jumped).plus((1.0 - ratio).sqrt().into(), Slot::Noise)
        } else {
            jumped
        };
        SamplerStep {
            timestep: timestep as f64,
            input_scale: 1.0,
            draws_noise,
            updates: vec![update.into_update(Slot::Latents)],
            renoise: next.map(|next| levels.add_noise(next)),
        }
    });
    Ok(Schedule::new(1.0, levels.add_noise(visited[0]), steps.collect()))
}
