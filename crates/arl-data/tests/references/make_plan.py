"""Writes `plan/planner.json`: what nnU-Net's own planners make of drawn dataset fingerprints.

Run from this folder: python make_plan.py
Made with Python 3.11, nnunetv2 2.8.1, dynamic_network_architectures 0.4.4, torch 2.15.0, numpy 2.4.6.

The planner runs as published, on dataset folders that hold its input files and nothing else. Networks are built on
PyTorch's `meta` device, because only the sizes of their feature maps are asked for. Where two axes are equally
large against the median, nnU-Net takes the last one that `np.argsort` names; with three values that is a stable sort.
"""
import contextlib
import io
import json
import os
import pathlib
import tempfile

work = pathlib.Path(tempfile.mkdtemp())
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    (work / name).mkdir()
    os.environ[name] = str(work / name)

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (  # noqa: E402
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)

PLANNERS = {
    "plain": (ExperimentPlanner, 8),
    "resenc-m": (nnUNetPlannerResEncM, 8),
    "resenc-l": (nnUNetPlannerResEncL, 24),
    "resenc-xl": (nnUNetPlannerResEncXL, 40),
}
OUT = pathlib.Path(__file__).parent / "plan" / "planner.json"


def estimate_on_meta(planner, original):
    def estimate(*args, **kwargs):
        with torch.device("meta"):
            return original(*args, **kwargs)

    planner.static_estimate_VRAM_usage = staticmethod(estimate)


for planner, _ in PLANNERS.values():
    estimate_on_meta(planner, ExperimentPlanner.static_estimate_VRAM_usage)


def configuration(plan):
    if plan is None:
        return None
    arch = plan["architecture"]["arch_kwargs"]
    blocks = arch.get("n_conv_per_stage", arch.get("n_blocks_per_stage"))
    return {
        "spacing": [float(s) for s in plan["spacing"]],
        "median_shape": [float(s) for s in plan["median_image_size_in_voxels"]],
        "patch_size": [int(s) for s in plan["patch_size"]],
        "batch_size": int(plan["batch_size"]),
        "features": [int(f) for f in arch["features_per_stage"]],
        "kernels": [[int(k) for k in kernel] for kernel in arch["kernel_sizes"]],
        "strides": [[int(s) for s in stride] for stride in arch["strides"]],
        "blocks": [int(b) for b in blocks],
        "decoder_convolutions": [int(c) for c in arch["n_conv_per_stage_decoder"]],
    }


def plan(name, case):
    dataset = f"Dataset001_{name}"
    raw, preprocessed = work / "nnUNet_raw" / dataset, work / "nnUNet_preprocessed" / dataset
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for channel in range(len(case["channel_names"])):
        nib.save(volume, raw / "imagesTr" / f"a_{channel:04d}.nii.gz")
    nib.save(volume, raw / "labelsTr" / "a.nii.gz")
    labels = {"background": 0} | {f"class {i}": i for i in range(1, case["classes"])}
    (raw / "dataset.json").write_text(json.dumps({
        "channel_names": {str(i): n for i, n in enumerate(case["channel_names"])},
        "labels": labels,
        "numTraining": len(case["spacings"]),
        "file_ending": ".nii.gz",
    }))
    relative = [np.prod(c) / np.prod(s) for c, s in zip(case["shapes_after_crop"], case["shapes"])]
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps({
        "spacings": case["spacings"],
        "shapes_after_crop": case["shapes_after_crop"],
        "foreground_intensity_properties_per_channel": {},
        "median_relative_size_after_cropping": float(np.median(relative)),
    }))
    planner, memory = PLANNERS[case["preset"]]
    with contextlib.redirect_stdout(io.StringIO()):
        made = planner(dataset, case["memory_gb"] or memory,
                       overwrite_target_spacing=case["target_spacing"])
        plans = made.plan_experiment()
    # `save_plans` turned everything into plain numbers.
    configurations = plans["configurations"]
    return {
        "transpose_forward": plans["transpose_forward"],
        "normalization": configurations["3d_fullres"]["normalization_schemes"],
        "use_mask_for_norm": configurations["3d_fullres"]["use_mask_for_norm"],
        "full": configuration(configurations["3d_fullres"]),
        "low": configuration(configurations.get("3d_lowres")),
    }


def draw(rng, spacing, shape, cases, jitter):
    """`cases` shapes and spacings around the given ones."""
    spacings, crops, shapes = [], [], []
    removed = rng.uniform(0.0, 0.25)
    for _ in range(cases):
        spacings.append([round(float(s * np.exp(rng.normal(0, jitter))), 6) for s in spacing])
        crop = [max(1, int(n * np.exp(rng.normal(0, jitter)))) for n in shape]
        crops.append(crop)
        shapes.append([int(np.ceil(n * (1 + rng.uniform(0, 2 * removed)))) for n in crop])
    return {"spacings": spacings, "shapes_after_crop": crops, "shapes": shapes}


# Spacing in mm and size in voxels, `[D, H, W]`, as nnU-Net's readers return them.
KINDS = [
    ([1.0, 1.0, 1.0], [138, 169, 138]),  # brain MRI
    ([1.0, 1.0, 1.0], [36, 50, 35]),  # hippocampus
    ([3.6, 0.625, 0.625], [20, 320, 320]),  # prostate MRI
    ([10.0, 1.5, 1.5], [9, 220, 250]),  # cine MRI
    ([1.0, 0.77, 0.77], [450, 512, 512]),  # abdominal CT
    ([5.0, 0.8, 0.8], [60, 512, 512]),  # thick slices
    ([0.4, 0.4, 0.4], [700, 900, 800]),  # huge
    ([1.5, 1.5, 1.5], [12, 14, 11]),  # tiny
    ([0.7, 4.0, 0.7], [400, 40, 380]),  # coarse axis in the middle
    ([0.9, 0.9, 6.0], [300, 260, 30]),  # coarse axis last
    ([2.0, 1.2, 3.1], [90, 200, 70]),  # three different axes
    ([0.05, 0.05, 0.05], [1500, 1400, 1300]),  # micro-CT
    ([0.8, 0.8, 0.8], [205, 215, 200]),  # a low resolution too close to the full one
]


def cases():
    rng = np.random.default_rng(20260101)
    made = {}
    presets = list(PLANNERS)
    for i in range(39):
        spacing, shape = KINDS[i % len(KINDS)]
        number = int(rng.choice([2, 3, 7, 13, 40]))
        case = draw(rng, spacing, shape, number, float(rng.choice([0.0, 0.05, 0.3])))
        channels = [["CT"], ["T1", "T2"], ["noNorm"], ["CT", "PET", "rescale_to_0_1"]][int(rng.integers(4))]
        case |= {
            "channel_names": channels,
            "classes": int(rng.integers(2, 12)),
            "preset": "plain" if i < 18 else presets[i % len(presets)],
            "memory_gb": [None, None, 4.0, 12.0, 24.0, 80.0][int(rng.integers(6))],
            "target_spacing": None,
        }
        if i % 9 == 8:
            case["target_spacing"] = [float(s) * 1.5 for s in spacing]
        made[f"drawn{i:02d}"] = case
    return made


def main():
    results = {}
    for name, case in cases().items():
        results[name] = case | {"planned": plan(name, case)}
        full, low = results[name]["planned"]["full"], results[name]["planned"]["low"]
        print(name, case["preset"], case["memory_gb"], full["patch_size"], full["batch_size"],
              low and (low["patch_size"], low["batch_size"]), flush=True)
    OUT.write_text(json.dumps(results).replace('}, "drawn', '},\n"drawn') + "\n")


if __name__ == "__main__":
    main()
