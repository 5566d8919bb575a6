//! The arithmetic of the convolution on slices.
//!
//! Each channel is copied once into a zero-padded volume, so that a tap of the kernel is a fixed offset in memory:
//! `y[s] = Σ w[tap]·x[s + offset[tap]]` for all positions `s` of the padded volume in one run, the borders between
//! rows included, whose results are dropped; the zeros behind a row are those before the next one. Vectors then run over
//! whole volumes, however short their rows are, and nothing is gathered by position (no im2col). A strided convolution reads every `stride`-th voxel: the copy parts
//! the volume into its residues (the phases), and a tap is an offset into one of them.
//!
//! Every sum has one order, so results have the same bits whatever the number of threads.

use std::mem::{MaybeUninit, take};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Geometry;
use crate::lanes;
use crate::unfilled::written;

/// Positions that a task computes for a block of output channels. A multiple of three vectors of any length.
const TILE: usize = 192;
/// Output channels computed together.
const BLOCK: usize = 8;
/// Positions over which products are summed before they join the weight gradient.
const CHUNK: usize = 512;
/// Lanes of the widest vector there is: 512 bits of f32.
const WIDEST: usize = 16;
/// Input channels of one task of the weight gradient.
const GROUP: usize = 8;

/// One axis of a padded, parted volume.
#[derive(Clone, Copy)]
struct Axis {
    /// Voxels of the unpadded axis.
    size: usize,
    /// The number of phases.
    stride: usize,
    /// Zeros before the first voxel of each phase.
    before: usize,
    /// Voxels of each phase, with the zeros that are read behind them.
    reach: usize,
    /// From a row or a plane of a phase to the next: its voxels, and the zeros between them.
    padded: usize,
}

impl Axis {
    /// Of so many voxels, with results at so many positions of each phase.
    fn new(size: usize, stride: usize, before: usize, reach: usize, positions: usize) -> Self {
        let voxels = size.div_ceil(stride);
        let reach = reach.max(voxels);
        Self {
            size,
            stride,
            before,
            reach,
            padded: (voxels + before.max(reach - voxels)).max(positions),
        }
    }
}

/// How a volume is laid out for the taps.
#[derive(Clone, Copy)]
struct Layout([Axis; 3]);

impl Layout {
    fn pitch(&self) -> [usize; 3] {
        let [_, h, w] = self.0.map(|axis| axis.padded);
        [h * w, w, 1]
    }

    /// Where a phase has its first voxel, behind zeros.
    fn first(&self) -> usize {
        let pitch = self.pitch();
        (0..3).map(|i| self.0[i].before * pitch[i]).sum()
    }

    /// Voxels of one phase, with the zeros that are read around them.
    fn phase(&self) -> usize {
        self.first() + positions(self.0.map(|axis| axis.reach), self.pitch())
    }

    /// Voxels of one channel: its phases, and room to read a tile past the end.
    fn channel(&self) -> usize {
        let phases: usize = self.0.iter().map(|axis| axis.stride).product();
        phases * self.phase() + TILE
    }

    /// Copies volumes into this layout, with zeros around them.
    fn fill(&self, volumes: &[f32]) -> Vec<f32> {
        let size: usize = self.0.iter().map(|axis| axis.size).product();
        let channel = self.channel();
        let copy = |padded: &mut [MaybeUninit<f32>]| {
            padded
                .par_chunks_mut(channel)
                .zip(volumes.par_chunks(size))
                .for_each(|(padded, volume)| match self.0.map(|axis| axis.stride) {
                    [1, 1, 1] => self.copy_rows(volume, padded),
                    _ => self.part(volume, padded),
                });
        };
        // SAFETY: each volume writes all of its channel.
        unsafe { written(volumes.len() / size * channel, copy) }.0
    }

    /// Copies a volume whose voxels stay beside each other.
    fn copy_rows(&self, volume: &[f32], padded: &mut [MaybeUninit<f32>]) {
        let [_, h, w] = self.0;
        let [pitch_d, pitch_h, _] = self.pitch();
        let mut end = 0;
        for (row, values) in volume.chunks_exact(w.size).enumerate() {
            let (z, y) = (row / h.size, row % h.size);
            let start = self.first() + z * pitch_d + y * pitch_h;
            clear(&mut padded[end..start]);
            end = start + w.size;
            padded[start..end].write_copy_of_slice(values);
        }
        clear(&mut padded[end..]);
    }

    /// Parts a volume into its phases.
    fn part(&self, volume: &[f32], padded: &mut [MaybeUninit<f32>]) {
        let [d, h, w] = self.0;
        let [pitch_d, pitch_h, _] = self.pitch();
        clear(padded);
        for (row, values) in volume.chunks_exact(w.size).enumerate() {
            let (z, y) = (row / h.size, row % h.size);
            let phase = (z % d.stride * h.stride + y % h.stride) * w.stride;
            let start = self.first() + z / d.stride * pitch_d + y / h.stride * pitch_h;
            for first in 0..w.stride.min(w.size) {
                let at = (phase + first) * self.phase() + start;
                let values = values[first..].iter().step_by(w.stride);
                for (to, from) in padded[at..].iter_mut().zip(values) {
                    to.write(*from);
                }
            }
        }
    }
}

fn clear(values: &mut [MaybeUninit<f32>]) {
    values.fill(MaybeUninit::new(0.0));
}

impl Geometry {
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Phase and shift of the kernel's element `tap` along an axis: output voxel `o` reads voxel `o + shift` of it.
    fn step(&self, axis: usize, tap: usize) -> (usize, isize) {
        let (at, stride) = (
            tap as isize - self.padding[axis] as isize,
            self.stride[axis] as isize,
        );
        (at.rem_euclid(stride) as usize, at.div_euclid(stride))
    }

    fn shifts(&self, axis: usize) -> (isize, isize) {
        let shifts = (0..self.kernel[axis]).map(|tap| self.step(axis, tap).1);
        shifts.fold((0, 0), |(low, high), shift| {
            (low.min(shift), high.max(shift))
        })
    }

    /// Phase and shifts along all axes of each tap, in the order of the weights.
    fn steps(&self) -> Vec<(usize, [isize; 3])> {
        let [d, h, w] = self.kernel;
        let all = (0..d).flat_map(|z| (0..h).flat_map(move |y| (0..w).map(move |x| [z, y, x])));
        all.map(|tap| {
            let step = [0, 1, 2].map(|axis| self.step(axis, tap[axis]));
            let phase = (0..3).fold(0, |phase, axis| phase * self.stride[axis] + step[axis].0);
            (phase, step.map(|(_, shift)| shift))
        })
        .collect()
    }

    /// The input as the taps of the forward pass read it.
    fn input_layout(&self) -> Layout {
        let output = self.output();
        Layout(std::array::from_fn(|i| {
            let (low, high) = self.shifts(i);
            // Voxels past the last one that a tap reads need room too.
            let reach = output[i] + high as usize;
            let (size, stride) = (self.size[i], self.stride[i]);
            Axis::new(size, stride, -low as usize, reach, output[i])
        }))
    }

    fn input_offsets(&self, layout: &Layout) -> Vec<usize> {
        let pitch = layout.pitch();
        self.steps()
            .into_iter()
            .map(|(phase, shift)| {
                let at = |i: usize| (shift[i] + layout.0[i].before as isize) as usize * pitch[i];
                phase * layout.phase() + at(0) + at(1) + at(2)
            })
            .collect()
    }

    /// The output as the taps of the backward pass read it, for each voxel of a phase of the input.
    fn gradient_layout(&self) -> Layout {
        let output = self.output();
        Layout(std::array::from_fn(|i| {
            let (low, high) = self.shifts(i);
            let phase = self.size[i].div_ceil(self.stride[i]);
            let reach = phase + -low as usize;
            Axis::new(output[i], 1, high as usize, reach, phase)
        }))
    }
}

/// `[N, Cout, D', H', W']` from `[N, Cin, D, H, W]`, weights `[Cout, Cin, kernel]` and a bias `[Cout]`, if any.
pub(super) fn forward(
    g: &Geometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let layout = g.input_layout();
    let offsets = g.input_offsets(&layout);
    let weight = pack(g.outputs, g.inputs, g.taps(), |o, i, tap| {
        weight[(o * g.inputs + i) * g.taps() + tap]
    });
    let size = g.output();
    let voxels: usize = size.iter().product();
    let image = g.inputs * g.size.iter().product::<usize>();
    let correlate = |output: &mut [MaybeUninit<f32>]| {
        for (input, output) in input
            .chunks_exact(image)
            .zip(output.chunks_exact_mut(g.outputs * voxels))
        {
            let padded = layout.fill(input);
            Correlation {
                input: &padded,
                channel: layout.channel(),
                offsets: &offsets,
                weight: &weight,
                bias,
                size,
                pitch: layout.pitch(),
            }
            .write(output);
        }
    };
    // SAFETY: each image has its part of the output, all of which its correlation writes.
    unsafe { written(g.images * g.outputs * voxels, correlate) }.0
}

/// The gradient with respect to the input, `[N, Cin, D, H, W]`, from that with respect to the output; `bias`, `[Cin]`,
/// is added to it. (As a forward pass this is the transposed convolution.)
pub(super) fn input_gradient(
    g: &Geometry,
    gradient: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let layout = g.gradient_layout();
    let pitch = layout.pitch();
    let steps = g.steps();
    let [sd, sh, sw] = g.stride;
    // Each phase of the input is reached by its own taps.
    let phases: Vec<(Vec<usize>, Vec<f32>)> = (0..sd * sh * sw)
        .map(|phase| {
            let taps: Vec<usize> = (0..steps.len())
                .filter(|&tap| steps[tap].0 == phase)
                .collect();
            let offsets = taps.iter().map(|&tap| {
                let at =
                    |i: usize| (layout.0[i].before as isize - steps[tap].1[i]) as usize * pitch[i];
                at(0) + at(1) + at(2)
            });
            let weight = pack(g.inputs, g.outputs, taps.len(), |i, o, tap| {
                weight[(o * g.inputs + i) * g.taps() + taps[tap]]
            });
            (offsets.collect(), weight)
        })
        .collect();
    let size: [usize; 3] = std::array::from_fn(|i| g.size[i].div_ceil(g.stride[i]));
    let voxels: usize = g.size.iter().product();
    let image = g.outputs * g.output().iter().product::<usize>();
    let correlate = |input: &mut [MaybeUninit<f32>]| {
        for (gradient, input) in gradient
            .chunks_exact(image)
            .zip(input.chunks_exact_mut(g.inputs * voxels))
        {
            let padded = layout.fill(gradient);
            let correlation = |(offsets, weight)| Correlation {
                input: &padded,
                channel: layout.channel(),
                offsets,
                weight,
                bias,
                size,
                pitch,
            };
            if let [(offsets, weight)] = &phases[..] {
                correlation((&offsets[..], &weight[..])).write(input);
                continue;
            }
            // The phases that share rows are written together, so that each row is touched once.
            for (row_phase, phases) in phases.chunks_exact(sw).enumerate() {
                let parts = phases.iter();
                let parts: Vec<Vec<f32>> = parts
                    .map(|(offsets, weight)| correlation((&offsets[..], &weight[..])).run(g.inputs))
                    .collect();
                input
                    .par_chunks_mut(voxels)
                    .enumerate()
                    .for_each(|(channel, input)| {
                        for z in (row_phase / sh..g.size[0]).step_by(sd) {
                            for y in (row_phase % sh..g.size[1]).step_by(sh) {
                                let row = (z * g.size[1] + y) * g.size[2];
                                let row = &mut input[row..][..g.size[2]];
                                let start = (channel * size[0] + z / sd) * size[1] + y / sh;
                                for (first, part) in parts.iter().enumerate() {
                                    let values = &part[start * size[2]..][..size[2]];
                                    let row = row.iter_mut().skip(first).step_by(sw);
                                    for (to, from) in row.zip(values) {
                                        to.write(*from);
                                    }
                                }
                            }
                        }
                    });
            }
        }
    };
    // SAFETY: each row of an image has one phase along D and H, and each of its voxels one along W.
    unsafe { written(g.images * g.inputs * voxels, correlate) }.0
}

/// The gradient with respect to the weights, `[Cout, Cin, kernel]`.
pub(super) fn weight_gradient(g: &Geometry, input: &[f32], gradient: &[f32]) -> Vec<f32> {
    let layout = g.input_layout();
    let offsets = g.input_offsets(&layout);
    let output = g.output();
    // The gradient lies where the forward pass had its results; the borders between rows are 0.
    let gradient_layout = Layout(std::array::from_fn(|i| Axis {
        size: output[i],
        stride: 1,
        before: 0,
        reach: output[i],
        padded: layout.0[i].padded,
    }));
    let positions = positions(output, layout.pitch()).next_multiple_of(WIDEST);
    let (blocks, groups) = (g.outputs.div_ceil(BLOCK), g.inputs.div_ceil(GROUP));
    let per_task = BLOCK * GROUP * g.taps();
    let arch = Arch::new();
    let mut sums = vec![0.0; blocks * groups * per_task];
    let image = g.inputs * g.size.iter().product::<usize>();
    let gradients = g.outputs * output.iter().product::<usize>();
    for (input, gradient) in input
        .chunks_exact(image)
        .zip(gradient.chunks_exact(gradients))
    {
        let input = layout.fill(input);
        let mut gradient = gradient_layout.fill(gradient);
        gradient.resize(blocks * BLOCK * gradient_layout.channel(), 0.0);
        sums.par_chunks_mut(per_task)
            .enumerate()
            .for_each(|(task, sums)| {
                let (block, group) = (task / groups, task % groups);
                let first = group * GROUP;
                arch.dispatch(Products {
                    gradient: &gradient[block * BLOCK * gradient_layout.channel()..],
                    gradient_channel: gradient_layout.channel(),
                    input: &input[first * layout.channel()..],
                    input_channel: layout.channel(),
                    channels: GROUP.min(g.inputs - first),
                    offsets: &offsets,
                    positions,
                    sums,
                });
            });
    }
    let mut weight = vec![0.0; g.outputs * g.inputs * g.taps()];
    let per_output = g.inputs * g.taps();
    weight
        .par_chunks_exact_mut(per_output)
        .enumerate()
        .for_each(|(o, weight)| {
            for (i, weight) in weight.chunks_exact_mut(g.taps()).enumerate() {
                let task = o / BLOCK * groups + i / GROUP;
                let first = task * per_task + i % GROUP * g.taps() * BLOCK + o % BLOCK;
                let sums = sums[first..].iter().step_by(BLOCK);
                weight
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(to, from)| *to = *from);
            }
        });
    weight
}

/// Positions from the first voxel of a volume to its last.
fn positions(size: [usize; 3], pitch: [usize; 3]) -> usize {
    (0..3).map(|i| (size[i] - 1) * pitch[i]).sum::<usize>() + 1
}

/// Weights in the order in which tiles read them: `[blocks, channels, taps, BLOCK]`, with zeros for the output
/// channels that a last block lacks.
fn pack(
    outputs: usize,
    channels: usize,
    taps: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let mut packed = vec![0.0; outputs.div_ceil(BLOCK) * channels * taps * BLOCK];
    if taps == 0 {
        return packed;
    }
    packed
        .par_chunks_exact_mut(taps * BLOCK)
        .enumerate()
        .for_each(|(at, packed)| {
            let (block, channel) = (at / channels, at % channels);
            for (tap, packed) in packed.chunks_exact_mut(BLOCK).enumerate() {
                for (m, packed) in packed.iter_mut().enumerate().take(outputs - block * BLOCK) {
                    *packed = weight(block * BLOCK + m, channel, tap);
                }
            }
        });
    packed
}

/// `y[o, v] = bias[o] + Σ w[o, channel, tap]·x[channel, s + offset[tap]]`, where `s` is the position of the voxel `v`.
struct Correlation<'a> {
    input: &'a [f32],
    channel: usize,
    offsets: &'a [usize],
    /// As [`pack`] makes them.
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Voxels of the result.
    size: [usize; 3],
    /// Positions from a voxel to the next along each axis.
    pitch: [usize; 3],
}

impl Correlation<'_> {
    /// All results, `[outputs, voxels]`.
    fn run(&self, outputs: usize) -> Vec<f32> {
        let voxels: usize = self.size.iter().product();
        // SAFETY: it writes all of them.
        unsafe { written(outputs * voxels, |output| self.write(output)) }.0
    }

    /// Writes all results, `[outputs, voxels]`.
    fn write(&self, output: &mut [MaybeUninit<f32>]) {
        let voxels: usize = self.size.iter().product();
        let outputs = output.len() / voxels;
        let blocks = outputs.div_ceil(BLOCK);
        let positions = positions(self.size, self.pitch);
        let tiles = positions.div_ceil(TILE);
        // What each tile writes of each channel: a run of voxels. A last block that lacks channels has empty ones.
        let mut rest: Vec<_> = output.chunks_exact_mut(voxels).collect();
        let mut runs = Vec::with_capacity(tiles * blocks * BLOCK);
        for tile in 0..tiles {
            let count = self.voxels_before((tile + 1) * TILE) - self.voxels_before(tile * TILE);
            runs.extend(rest.iter_mut().map(|rest| {
                let (run, later) = take(rest).split_at_mut(count);
                *rest = later;
                run
            }));
            runs.resize_with((tile + 1) * blocks * BLOCK, Default::default);
        }
        let per_block = self.weight.len() / blocks;
        let arch = Arch::new();
        runs.par_chunks_mut(BLOCK).enumerate().for_each_init(
            || vec![0.0; BLOCK * TILE],
            |values, (task, runs)| {
                let (tile, block) = (task / blocks, task % blocks);
                let start = tile * TILE;
                arch.dispatch(Tile {
                    input: self.input,
                    channel: self.channel,
                    offsets: self.offsets,
                    weight: &self.weight[block * per_block..(block + 1) * per_block],
                    start,
                    positions: TILE.min(positions - start),
                    values,
                });
                for (m, run) in runs.iter_mut().enumerate() {
                    let bias = match self.bias {
                        Some(bias) if !run.is_empty() => bias[block * BLOCK + m],
                        _ => 0.0,
                    };
                    self.read(&values[m * TILE..(m + 1) * TILE], start, bias, run);
                }
            },
        );
    }

    /// How many voxels lie before a position.
    fn voxels_before(&self, position: usize) -> usize {
        let [d, h, w] = self.size;
        let (z, rest) = (position / self.pitch[0], position % self.pitch[0]);
        let (y, x) = (rest / self.pitch[1], rest % self.pitch[1]);
        let rows = (z * h + y.min(h)).min(d * h);
        let whole = z < d && y < h;
        rows * w + if whole { x.min(w) } else { 0 }
    }

    /// The voxels among the positions from `start` on, which have these values, with a bias.
    fn read(&self, values: &[f32], start: usize, bias: f32, voxels: &mut [MaybeUninit<f32>]) {
        let [_, h, w] = self.size;
        let first = self.voxels_before(start);
        let mut at = 0;
        while at < voxels.len() {
            let (row, x) = ((first + at) / w, (first + at) % w);
            let position = row / h * self.pitch[0] + row % h * self.pitch[1] + x - start;
            let run = &mut voxels[at..];
            let count = run.len().min(w - x);
            for (to, from) in run[..count].iter_mut().zip(&values[position..]) {
                to.write(from + bias);
            }
            at += count;
        }
    }
}

/// One tile of one block of output channels.
struct Tile<'a> {
    input: &'a [f32],
    channel: usize,
    offsets: &'a [usize],
    weight: &'a [f32],
    start: usize,
    /// Positions to compute: small volumes end long before their tile does.
    positions: usize,
    /// `[BLOCK, TILE]`.
    values: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // As many sums as the registers hold, beside three vectors of input and one weight.
        if S::REGISTER_COUNT >= 32 {
            self.rows::<S, 8>(simd, 0);
        } else {
            self.rows::<S, 4>(simd, 0);
            self.rows::<S, 4>(simd, 4);
        }
    }
}

impl Tile<'_> {
    /// `M` output channels from `first` on.
    // Sums are only ever named by constant indices, so that they stay in registers: an iterator over them, or a slice of
    // them, puts them into memory and costs half the speed.
    #[allow(clippy::needless_range_loop, clippy::manual_memcpy)]
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, simd: S, first: usize) {
        const V: usize = 3;
        let width = V * S::F32_LANES;
        for at in (0..self.positions).step_by(width) {
            let mut sums = [[simd.splat_f32s(0.0); V]; M];
            let mut weights = self.weight.chunks_exact(BLOCK);
            for channel in self.input.chunks_exact(self.channel) {
                let channel = &channel[self.start + at..];
                for (&offset, weights) in self.offsets.iter().zip(&mut weights) {
                    let (x, _) = S::as_simd_f32s(&channel[offset..offset + width]);
                    let x: [S::f32s; V] = [x[0], x[1], x[2]];
                    for m in 0..M {
                        let weight = simd.splat_f32s(weights[first + m]);
                        for v in 0..V {
                            sums[m][v] = simd.mul_add_e_f32s(weight, x[v], sums[m][v]);
                        }
                    }
                }
            }
            for m in 0..M {
                let row = &mut self.values[(first + m) * TILE + at..][..width];
                let (row, _) = S::as_mut_simd_f32s(row);
                for v in 0..V {
                    row[v] = sums[m][v];
                }
            }
        }
    }
}

/// `sums[i, tap, o] += Σ_s gradient[o, s]·input[i, s + offset[tap]]` for a block of output channels.
struct Products<'a> {
    gradient: &'a [f32],
    gradient_channel: usize,
    input: &'a [f32],
    input_channel: usize,
    channels: usize,
    offsets: &'a [usize],
    positions: usize,
    /// `[GROUP, taps, BLOCK]`.
    sums: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.rows::<S, 8>(simd, 0);
        } else {
            self.rows::<S, 4>(simd, 0);
            self.rows::<S, 4>(simd, 4);
        }
    }
}

impl Products<'_> {
    /// The sums of `M` output channels from `first` on.
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, simd: S, first: usize) {
        const T: usize = 3;
        let taps = self.offsets.len();
        // Each lane keeps its own sum until the end: adding lanes up is slow.
        let mut lanes = vec![[simd.splat_f32s(0.0); M]; self.channels * taps];
        for start in (0..self.positions).step_by(CHUNK) {
            let count = CHUNK.min(self.positions - start);
            let rows: [&[S::f32s]; M] = std::array::from_fn(|m| {
                let at = (first + m) * self.gradient_channel + start;
                S::as_simd_f32s(&self.gradient[at..at + count]).0
            });
            let vectors = rows[0].len();
            let rows = rows.map(|row| &row[..vectors]);
            for (i, lanes) in lanes.chunks_exact_mut(taps).enumerate() {
                let channel = &self.input[i * self.input_channel + start..];
                for (lanes, offsets) in lanes.chunks_mut(T).zip(self.offsets.chunks(T)) {
                    // A last group that lacks taps repeats one, whose sums are dropped.
                    let shifted: [&[S::f32s]; T] = std::array::from_fn(|t| {
                        let offset = offsets[t.min(offsets.len() - 1)];
                        &S::as_simd_f32s(&channel[offset..offset + count]).0[..vectors]
                    });
                    let mut sums = [[simd.splat_f32s(0.0); T]; M];
                    for v in 0..vectors {
                        let x = [shifted[0][v], shifted[1][v], shifted[2][v]];
                        for m in 0..M {
                            let y = rows[m][v];
                            for t in 0..T {
                                sums[m][t] = simd.mul_add_e_f32s(y, x[t], sums[m][t]);
                            }
                        }
                    }
                    for (t, lanes) in lanes.iter_mut().enumerate() {
                        for m in 0..M {
                            lanes[m] = simd.add_f32s(lanes[m], sums[m][t]);
                        }
                    }
                }
            }
        }
        for (sums, lanes) in self.sums.chunks_exact_mut(BLOCK).zip(&lanes) {
            for m in 0..M {
                sums[first + m] += simd.reduce_sum_f32s(lanes[m]);
            }
        }
    }
}

/// The sum of each channel over images and voxels, `[C]`, of `[N, C, voxels]`.
pub(super) fn channel_sums(values: &[f32], channels: usize, voxels: usize) -> Vec<f32> {
    let sum = |channel: usize| {
        let images = values.chunks_exact(voxels).skip(channel).step_by(channels);
        images
            .map(|values| lanes::sum(voxels, |i| values[i]))
            .sum::<f64>() as f32
    };
    (0..channels).into_par_iter().map(sum).collect()
}
